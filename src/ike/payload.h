/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/payload.h - IKEv2 messages as bytes (RFC 7296, section 3): header, payload chain, and the
 * payloads that we understand, read and written. Form only: nothing here knows a state.
 *
 * Everything read is borrowed from the message. A list that is longer than its limit is
 * ERR_LIMIT, never cut. Parsers write *ret on success only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/buf.h"
#include "ike/sa.h"

#define IKE_HDR 28
#define IKE_PAYLOAD_HDR 4
#define IKE_PAYLOADS_MAX 64 /* ours; stock peers send up to about 20 */
#define IKE_PROPOSALS_MAX 16
#define IKE_TRANSFORMS_MAX 128 /* in one SA payload */
#define IKE_DELETE_MAX 64 /* SPIs in one Delete payload */
#define IKE_NONCE_MIN 16 /* RFC 7296, 3.9 */
#define IKE_NONCE_MAX 256
#define IKE_NONCE_OURS 32 /* half the key of the largest PRF (2.10) */

enum ike_exchange { IKE_SA_INIT = 34, IKE_AUTH = 35, IKE_CREATE_CHILD_SA = 36, IKE_INFORMATIONAL = 37 };

enum ike_payload_type {
	IKE_P_NONE = 0,
	IKE_P_SA = 33,
	IKE_P_KE = 34,
	IKE_P_IDI = 35,
	IKE_P_IDR = 36,
	IKE_P_CERT = 37,
	IKE_P_CERTREQ = 38,
	IKE_P_AUTH = 39,
	IKE_P_NONCE = 40,
	IKE_P_NOTIFY = 41,
	IKE_P_DELETE = 42,
	IKE_P_VENDOR = 43,
	IKE_P_TSI = 44,
	IKE_P_TSR = 45,
	IKE_P_SK = 46,
	IKE_P_CP = 47,
	IKE_P_EAP = 48,
	IKE_P_SKF = 53 /* RFC 7383: a fragment (ike/fragment.h) */
};

enum ike_protocol { IKE_PROTO_NONE = 0, IKE_PROTO_IKE = 1, IKE_PROTO_AH = 2, IKE_PROTO_ESP = 3 };

/* RFC 7296, 3.10.1; RFC 7427, 4; RFC 4555, 4; the last block is ours (private use). Below 16384: errors. */
enum ike_notify_type {
	IKE_N_UNSUPPORTED_CRITICAL_PAYLOAD = 1,
	IKE_N_INVALID_SYNTAX = 7,
	IKE_N_NO_PROPOSAL_CHOSEN = 14,
	IKE_N_INVALID_KE_PAYLOAD = 17,
	IKE_N_AUTHENTICATION_FAILED = 24,
	IKE_N_NO_ADDITIONAL_SAS = 35,
	IKE_N_INTERNAL_ADDRESS_FAILURE = 36,
	IKE_N_FAILED_CP_REQUIRED = 37,
	IKE_N_TS_UNACCEPTABLE = 38,
	IKE_N_UNACCEPTABLE_ADDRESSES = 40, /* RFC 4555, 4.1 */
	IKE_N_UNEXPECTED_NAT_DETECTED = 41,
	IKE_N_TEMPORARY_FAILURE = 43,
	IKE_N_CHILD_SA_NOT_FOUND = 44,
	IKE_N_STATUS_FIRST = 16384,
	IKE_N_INITIAL_CONTACT = 16384,
	IKE_N_NAT_DETECTION_SOURCE_IP = 16388,
	IKE_N_NAT_DETECTION_DESTINATION_IP = 16389,
	IKE_N_COOKIE = 16390,
	IKE_N_USE_TRANSPORT_MODE = 16391,
	IKE_N_REKEY_SA = 16393,
	IKE_N_MOBIKE_SUPPORTED = 16396, /* RFC 4555, 4.2 */
	IKE_N_ADDITIONAL_IP4_ADDRESS = 16397,
	IKE_N_ADDITIONAL_IP6_ADDRESS = 16398,
	IKE_N_NO_ADDITIONAL_ADDRESSES = 16399,
	IKE_N_UPDATE_SA_ADDRESSES = 16400,
	IKE_N_COOKIE2 = 16401,
	IKE_N_NO_NATS_ALLOWED = 16402,
	IKE_N_CHILDLESS_IKEV2_SUPPORTED = 16418, /* RFC 6023 */
	IKE_N_FRAGMENTATION_SUPPORTED = 16430, /* RFC 7383 */
	IKE_N_SIGNATURE_HASH_ALGORITHMS = 16431,
	IKE_N_USE_PPK = 16435, /* RFC 8784 */
	IKE_N_PPK_IDENTITY = 16436,
	IKE_N_TIELINE_BIND = 46193,
	IKE_N_TIELINE_REQUEST = 46194,
	IKE_N_TIELINE_GRANT = 46195,
	IKE_N_TIELINE_REFUSE = 46196,
	IKE_N_TIELINE_WAIT = 46199
};

/* ---- header (3.1) ---- */
struct ike_header {
	uint64_t spi_i, spi_r;
	uint8_t next, version, exchange;
	bool from_initiator, is_response;
	uint32_t message_id;
};
/* ERR_UNSUPPORTED: another major version. The length field must be the datagram's. */
MUST_CHECK enum err ike_header_parse(struct span msg, struct ike_header *ret);

/* ---- payload chain (3.2) ---- */
struct ike_payload {
	uint8_t type, next;
	bool critical;
	size_t offset; /* of its body in the bytes walked */
	struct span body;
};
struct ike_chain {
	struct ike_payload p[IKE_PAYLOADS_MAX];
	unsigned n;
	uint8_t unknown_critical; /* the first such type, 0: none (2.5) */
};
/* Walks from the payload type `first`. An SK or SKF payload ends the chain (3.14); what follows it is its
 * content. SA, KE, IDi, IDr, AUTH, Nonce, TSi, TSr more than once: ERR_MALFORMED. */
MUST_CHECK enum err ike_chain_parse(struct span body, uint8_t first, struct ike_chain *ret);
/* The first of that type, NULL: none. */
const struct ike_payload *ike_chain_find(const struct ike_chain *c, uint8_t type);

/* ---- SA (3.3) ---- */
enum ike_transform_type { IKE_T_ENCR = 1, IKE_T_PRF = 2, IKE_T_INTEG = 3, IKE_T_KE = 4, IKE_T_ESN = 5 };
struct ike_transform {
	uint8_t type;
	uint16_t id, key_bits; /* 0: no Key Length attribute */
	bool unknown_attribute; /* 3.3.6: such a transform is not acceptable */
};
struct ike_proposal {
	uint8_t number, protocol;
	struct span spi;
	unsigned first, n; /* in transforms[] */
};
struct ike_offer {
	struct ike_proposal proposals[IKE_PROPOSALS_MAX];
	unsigned n_proposals;
	struct ike_transform transforms[IKE_TRANSFORMS_MAX];
	unsigned n_transforms;
};
MUST_CHECK enum err ike_offer_parse(struct span body, struct ike_offer *ret);

/* ---- the others ---- */
struct ike_ke {
	uint16_t group;
	struct span value;
};
struct ike_id {
	uint8_t type;
	struct span value, body;
}; /* body: as AUTH covers it (2.15) */
#define IKE_ID_RFC822 3
struct ike_cert {
	uint8_t encoding;
	struct span value;
};
#define IKE_CERT_X509_SIGNATURE 4
struct ike_auth {
	uint8_t method;
	struct span value;
};
struct ike_notify {
	uint8_t protocol;
	uint16_t type;
	struct span spi, data;
};
struct ike_delete {
	uint8_t protocol;
	unsigned n;
	uint32_t spis[IKE_DELETE_MAX];
};

MUST_CHECK enum err ike_ke_parse(struct span body, struct ike_ke *ret); /* 3.4 */
MUST_CHECK enum err ike_id_parse(struct span body, struct ike_id *ret); /* 3.5 */
MUST_CHECK enum err ike_cert_parse(struct span body, struct ike_cert *ret); /* 3.6; CERTREQ 3.7 alike */
MUST_CHECK enum err ike_auth_parse(struct span body, struct ike_auth *ret); /* 3.8 */
MUST_CHECK enum err ike_nonce_parse(struct span body, struct span *ret); /* 3.9 */
MUST_CHECK enum err ike_notify_parse(struct span body, struct ike_notify *ret); /* 3.10 */
MUST_CHECK enum err ike_delete_parse(struct span body, struct ike_delete *ret); /* 3.11 */
/* 3.13. Selectors of a type that we do not know are left out: narrowing may do so (2.9). */
MUST_CHECK enum err ike_ts_parse(struct span body, struct ike_ts_list *ret);

/* Checks the form of every payload of a type that we know. */
MUST_CHECK enum err ike_chain_check(const struct ike_chain *c);
/* The first notify of that type. Call after ike_chain_check(). */
bool ike_notify_find(const struct ike_chain *c, uint16_t type, struct ike_notify *ret);
/* The first error notify (type below 16384), 0: none. */
uint16_t ike_notify_error(const struct ike_chain *c);

/* Our vendor ID (3.12), and is it among the payloads? */
struct span ike_vendor_id(void);
bool ike_vendor_id_find(const struct ike_chain *c);
#define IKE_BIND_LEN 40 /* data of TIELINE_BIND: tag, bind hash */

/* Is every selector of a inside one of b? */
bool ike_ts_within(const struct ike_ts_list *a, const struct ike_ts_list *b);

/* ---- our notifies' data (docs/protocol.md) ---- */
struct ike_request {
	uint32_t request;
	unsigned n_names;
	char names[IKE_GRANTS_MAX][IKE_NAME_MAX + 1];
};
MUST_CHECK enum err ike_request_parse(struct span data, struct ike_request *ret);
/* In CREATE_CHILD_SA only request and grant: `brief`. */
MUST_CHECK enum err ike_grant_parse(struct span data, bool brief, struct ike_grant *ret);
MUST_CHECK enum err ike_refuse_parse(struct span data, uint32_t *ret_request, uint8_t *ret_reason);
MUST_CHECK enum err ike_wait_parse(struct span data, uint32_t *ret_request, uint16_t *ret_seconds);

/* ---- writing ---- */
struct ike_build {
	struct wr w;
	size_t next_at; /* the Next Payload byte that the next payload fills */
	size_t open_at; /* start of the open payload, 0: none */
	size_t sk_at; /* start of the SK or SKF payload, 0: none */
	size_t in_at; /* start of what is encrypted in it */
};
void ike_build_start(struct ike_build *b, void *mem, size_t cap, const struct ike_header *h);
/* Opens a payload; its body follows through b->w; the next open or the end closes it. */
void ike_build_open(struct ike_build *b, uint8_t type);
void ike_build_close(struct ike_build *b);
void ike_build_bytes(struct ike_build *b, uint8_t type, struct span body);
void ike_build_ke(struct ike_build *b, uint16_t group, struct span value);
void ike_build_id(struct ike_build *b, uint8_t type, const char *mail);
void ike_build_cert(struct ike_build *b, struct span der);
void ike_build_auth(struct ike_build *b, uint8_t method, struct span value);
void ike_build_notify(struct ike_build *b, uint16_t type, struct span data);
void ike_build_notify_spi(struct ike_build *b, uint16_t type, uint32_t esp_spi);
void ike_build_delete_ike(struct ike_build *b);
void ike_build_delete_esp(struct ike_build *b, uint32_t spi);
void ike_build_ts(struct ike_build *b, uint8_t type, const struct ike_ts_list *ts);
void ike_build_grant(struct ike_build *b, const struct ike_grant *g, bool brief);
void ike_build_request(struct ike_build *b, uint32_t request, const char names[][IKE_NAME_MAX + 1], unsigned n);
void ike_build_refuse(struct ike_build *b, uint32_t request, uint8_t reason);
void ike_build_wait(struct ike_build *b, uint32_t request, uint16_t seconds);
/* Closes an unprotected message. ERR_LIMIT: it did not fit. */
MUST_CHECK enum err ike_build_done(struct ike_build *b, struct span *ret);
