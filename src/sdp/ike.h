/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sdp/ike.h - the IKE media section (RFC 6193; docs/protocol.md): from a parsed description to
 * effective values, and back to text. Values only: whether they are acceptable here
 * (which key, which peer) is the session's decision; whether they follow the RFCs is this
 * file's. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/buf.h"
#include "crypto/hash.h"
#include "sdp/sdp.h"

#define SDP_FINGERPRINTS_MAX 4
#define SDP_CANDIDATES_MAX 32
#define SDP_AOR_MAX 256
#define SDP_SPKI_MAX 600

enum sdp_fmt { SDP_IKE_ESP, SDP_IKE_ESP_UDPENCAP };
enum sdp_setup { SDP_ACTIVE, SDP_PASSIVE, SDP_ACTPASS };

struct sdp_fingerprint {
	enum hash_alg hash; /* sha-1 and better; md2, md5 are ignored */
	uint8_t value[HASH_MAX];
	size_t len;
};

/* One IKE media section with session-level values and defaults applied. Owns its memory
 * except `candidates`, which are spans into the description's text (after "candidate:"). */
struct sdp_ike {
	enum sdp_fmt fmt;
	struct addr addr; /* c= and m= port; port 0: rejected */
	char mid[33]; /* "" absent */
	enum sdp_setup setup; /* effective */
	bool setup_explicit;
	struct sdp_fingerprint fingerprints[SDP_FINGERPRINTS_MAX], psk_fingerprints[SDP_FINGERPRINTS_MAX];
	unsigned n_fingerprints, n_psk_fingerprints;
	char ice_ufrag[257], ice_pwd[257]; /* "" absent (RFC 8839: 4 to 256, 22 to 256) */
	bool ice_lite, ice2, ice_mismatch;
	uint32_t ice_pacing_ms; /* session level (RFC 8839, 5.5); read: 50 where absent, written: 0 not at all */
	struct span candidates[SDP_CANDIDATES_MAX];
	unsigned n_candidates;
	/* tieline-* lines (docs/protocol.md); present only as a whole where the rules say so */
	bool is_tieline; /* any tieline- line is there */
	bool has_bind, has_key, has_aor, has_to, has_date, has_sig;
	uint8_t bind[16];
	uint8_t spki[SDP_SPKI_MAX]; /* DER */
	size_t spki_len;
	char aor[SDP_AOR_MAX], to[SDP_AOR_MAX];
	int64_t date_s;
	uint8_t sig[64];
	struct span pake, sas, prev; /* values, into the text; empty: absent */
};

/* Index of the first IKE section (either format, proto udp, port not 0), SDP_MEDIA_MAX: none. */
unsigned sdp_ike_find(const struct sdp *d);
/* The first that a live call may use: ike-esp-udpencap alone, neither port 500 nor in a BUNDLE group; where there is none and
 * plain_esp is set, the same with ike-esp; SDP_MEDIA_MAX: none. */
unsigned sdp_ike_usable(const struct sdp *d, bool plain_esp);
/* Effective values of media section `index`. is_answer selects the default of ike-setup
 * (active in an offer, passive in an answer). ERR_MALFORMED with *ret_why: two format
 * tokens, a tieline line at session level or twice, bad base64, bad hex, ... */
MUST_CHECK enum err sdp_ike_read(const struct sdp *d, unsigned index, bool is_answer, struct sdp_ike *ret,
				 const char **ret_why);
/* canon(description) of docs/protocol.md into dst; *ret_len bytes. */
MUST_CHECK enum err sdp_ike_canon(const struct sdp *d, unsigned index, bool is_answer, uint8_t *dst, size_t cap,
				  size_t *ret_len);
#define SDP_CANON_MAX 8192

/* ---- writing ---- */
struct sdp_origin {
	uint64_t id, version; /* o= */
	struct addr addr;
};
/* An offer with one IKE media section; every set field of m becomes a line (sig only if
 * has_sig). Candidates are written as given. NUL-free text into w. */
void sdp_ike_write_offer(struct wr *w, const struct sdp_origin *o, const struct sdp_ike *m);
/* The answer to `offer`: section `index` becomes m, every other section keeps its place with port 0. */
void sdp_ike_write_answer(struct wr *w, const struct sdp_origin *o, const struct sdp *offer, unsigned index,
			  const struct sdp_ike *m);
/* The setup of the answer to an offer (RFC 4145, 4.1), given what the answerer prefers for actpass. */
MUST_CHECK enum err sdp_setup_answer(enum sdp_setup offered, enum sdp_setup preferred, enum sdp_setup *ret);
/* "sip:user@host": host lower case, no port, no parameters, sips: as sip: (AOR text of
 * docs/protocol.md), from anything a user or peer wrote ("user@host", "<sip:...>" not included). */
MUST_CHECK enum err sdp_aor_normal(struct span text, char *dst, size_t cap);
