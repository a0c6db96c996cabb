/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/stun.h - STUN messages (RFC 8489): codec, integrity, and a stateless Binding server. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/buf.h"

#define STUN_COOKIE 0x2112A442u
#define STUN_HDR 20
#define STUN_ATTRS_MAX 32
#define STUN_MSG_MAX 1280 /* what we write */

enum stun_class { STUN_REQUEST, STUN_INDICATION, STUN_SUCCESS, STUN_ERROR };
#define STUN_BINDING 0x001

enum stun_attr_type {
	STUN_MAPPED_ADDRESS = 0x0001,
	STUN_USERNAME = 0x0006,
	STUN_MESSAGE_INTEGRITY = 0x0008,
	STUN_ERROR_CODE = 0x0009,
	STUN_UNKNOWN_ATTRIBUTES = 0x000A,
	STUN_REALM = 0x0014,
	STUN_NONCE = 0x0015,
	STUN_MESSAGE_INTEGRITY_SHA256 = 0x001C,
	STUN_XOR_MAPPED_ADDRESS = 0x0020,
	STUN_PRIORITY = 0x0024,
	STUN_USE_CANDIDATE = 0x0025,
	STUN_SOFTWARE = 0x8022,
	STUN_FINGERPRINT = 0x8028,
	STUN_ICE_CONTROLLED = 0x8029,
	STUN_ICE_CONTROLLING = 0x802A,
	STUN_TIELINE_PADDING = 0xF471 /* need not be understood; docs/protocol.md */
};

struct stun_attr {
	uint16_t type;
	struct span value;
};

struct stun_msg {
	enum stun_class cls;
	uint16_t method;
	uint8_t transaction[12];
	struct stun_attr attrs[STUN_ATTRS_MAX];
	unsigned n_attrs;
	bool has_integrity, has_integrity256, has_fingerprint;
	struct span raw; /* the datagram, borrowed */
};

/* Form: header, lengths, attribute framing; FINGERPRINT verified when present (ERR_AUTH).
 * Attributes after MESSAGE-INTEGRITY other than -SHA256 and FINGERPRINT are ignored (14.5). */
MUST_CHECK enum err stun_parse(struct span d, struct stun_msg *ret);
bool stun_is(struct span d); /* first bits, cookie, length consistent */
const struct stun_attr *stun_find(const struct stun_msg *m, uint16_t type); /* first, NULL: absent */
/* MESSAGE-INTEGRITY with a short-term password. ERR_AUTH: absent or wrong. */
MUST_CHECK enum err stun_check_integrity(const struct stun_msg *m, struct span password);
MUST_CHECK enum err stun_attr_addr(const struct stun_msg *m, const struct stun_attr *a,
				   struct addr *ret); /* XOR- or plain */
/* Comprehension-required attributes that we do not know; returns how many were written to dst. */
unsigned stun_unknown(const struct stun_msg *m, uint16_t *dst, unsigned cap);
const char *stun_attr_name(uint16_t type);
/* ERROR-CODE: class * 100 + number, 0: absent or malformed. */
unsigned stun_error_code(const struct stun_msg *m);

/* Writing: begin, attributes, then finish, which adds MESSAGE-INTEGRITY (if a password is given) and
 * FINGERPRINT and patches the length. ERR_LIMIT: did not fit. */
void stun_begin(struct wr *w, enum stun_class cls, uint16_t method, const uint8_t transaction[12]);
void stun_put(struct wr *w, uint16_t type, struct span value);
void stun_put_u32(struct wr *w, uint16_t type, uint32_t v);
void stun_put_u64(struct wr *w, uint16_t type, uint64_t v);
void stun_put_xor_addr(struct wr *w, uint16_t type, const struct addr *a, const uint8_t transaction[12]);
void stun_put_error(struct wr *w, unsigned code, const char *reason);
MUST_CHECK enum err stun_finish(struct wr *w, struct span password, bool fingerprint);

/* The exchange's Binding server: answers a request without credentials, statelessly. False: no answer is due. */
bool stun_serve(struct span request, const struct addr *from, struct wr *w);
