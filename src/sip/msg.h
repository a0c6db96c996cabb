/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/msg.h - SIP messages (RFC 3261, 7 and 25): parse, look at, write. Used by the user agent and by the exchange. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/buf.h"
#include "base/path.h"
#include "sip/uri.h"

#define SIP_MSG_MAX 65535
#define SIP_HEADERS_MAX 128
#define SIP_VIAS_MAX 16

enum sip_method {
	SIP_UNKNOWN,
	SIP_INVITE,
	SIP_ACK,
	SIP_BYE,
	SIP_CANCEL,
	SIP_REGISTER,
	SIP_OPTIONS,
	SIP_UPDATE,
	SIP_PRACK,
	SIP_INFO,
	SIP_MESSAGE,
	SIP_NOTIFY,
	SIP_SUBSCRIBE,
	SIP_REFER,
	SIP_METHOD_COUNT
};
const char *sip_method_name(enum sip_method m);

/* Headers that somebody looks at; all others are H_OTHER. Compact forms count as the long ones. */
enum sip_h {
	H_OTHER,
	H_VIA,
	H_FROM,
	H_TO,
	H_CALL_ID,
	H_CSEQ,
	H_CONTACT,
	H_ROUTE,
	H_RECORD_ROUTE,
	H_MAX_FORWARDS,
	H_EXPIRES,
	H_MIN_EXPIRES,
	H_CONTENT_LENGTH,
	H_CONTENT_TYPE,
	H_CONTENT_ENCODING,
	H_REQUIRE,
	H_PROXY_REQUIRE,
	H_SUPPORTED,
	H_UNSUPPORTED,
	H_ALLOW,
	H_ACCEPT,
	H_WWW_AUTHENTICATE,
	H_PROXY_AUTHENTICATE,
	H_AUTHORIZATION,
	H_PROXY_AUTHORIZATION,
	H_DATE,
	H_RETRY_AFTER,
	H_RSEQ,
	H_RACK,
	H_REPLACES,
	H_SESSION_EXPIRES,
	H_MIN_SE,
	H_WARNING,
	H_REASON,
	H_USER_AGENT,
	H_COUNT
};
const char *sip_h_name(enum sip_h h);

struct sip_header {
	enum sip_h h;
	struct span name, value; /* value without outer blanks; folds are still inside it as CRLF + blanks */
};

struct sip_via {
	enum transport transport;
	bool transport_known; /* false: neither UDP, TCP nor TLS */
	struct span host; /* sent-by, without brackets */
	uint16_t port; /* 0: none */
	struct span branch, received, params, text;
	bool has_rport;
	uint16_t rport; /* 0: "rport" without a value */
};

struct sip_msg {
	bool is_request;
	enum sip_method method; /* of the request, or of CSeq in a response */
	struct span method_text, uri_text, reason;
	struct sip_uri uri; /* request; uri_ok false: could not be parsed (416) */
	bool uri_ok;
	unsigned status; /* response */
	struct sip_header headers[SIP_HEADERS_MAX];
	unsigned n_headers;
	struct span body;
	struct span raw; /* all of it, borrowed */
	/* The headers that every message must have (8.1.1), parsed. */
	struct sip_via via; /* topmost */
	unsigned n_vias; /* elements over all Via headers */
	struct sip_nameaddr from, to;
	struct span from_tag, to_tag; /* empty: none */
	struct span call_id;
	uint32_t cseq;
	enum sip_method cseq_method;
	struct span cseq_method_text;
	int max_forwards; /* -1: absent */
};

/* Strict about what it needs, tolerant about the rest (RFC 4475). On error *ret_why is a short static sentence and *ret_status
 * the answer a request deserves (400, 416, 505, 413, 0: none, because there is not enough to answer). Where the start line and the
 * topmost Via, From, To, Call-ID and CSeq could be read, ret is filled although the result is an error, and *ret_status is not
 * 0: an answer can be written from it. Datagram: what follows Content-Length is ignored, a shorter body is an error (18.3). */
MUST_CHECK enum err sip_parse(struct span d, struct sip_msg *ret, const char **ret_why, unsigned *ret_status);
const struct sip_header *sip_header(const struct sip_msg *m, enum sip_h h); /* first, NULL: absent */
const struct sip_header *sip_header_next(const struct sip_msg *m, enum sip_h h, unsigned *at); /* *at starts at 0 */
struct span sip_value(const struct sip_msg *m, enum sip_h h); /* of the first, empty: absent */
/* Is `token` an element of this comma-separated header (any instance, no case)? */
bool sip_has_token(const struct sip_msg *m, enum sip_h h, const char *token);
/* Elements of all Route, Record-Route, Contact headers in order. *at and *rest start zero. ERR_NOTFOUND: no more. */
struct sip_walk {
	unsigned at;
	struct span rest;
};
MUST_CHECK enum err sip_walk_next(const struct sip_msg *m, enum sip_h h, struct sip_walk *w, struct sip_nameaddr *ret);
MUST_CHECK enum err sip_via_next(const struct sip_msg *m, struct sip_walk *w, struct sip_via *ret);
/* Delta-seconds header; false: absent or malformed. */
bool sip_seconds(const struct sip_msg *m, enum sip_h h, uint32_t *ret);

/* ---- a byte stream (18.3): how long is the next message? ---- */
enum sip_frame {
	SIP_FRAME_MORE, /* not all there yet */
	SIP_FRAME_MESSAGE, /* *ret_len bytes are one message */
	SIP_FRAME_KEEPALIVE, /* *ret_len bytes of CRLFs: skip. CRLFCRLF is RFC 5626's ping (*ret_ping: answer CRLF).
					   * One that comes in two pieces shows as two pongs; a server takes two in a row for one. */
	SIP_FRAME_BAD /* no Content-Length, too long, not SIP: close the stream */
};
enum sip_frame sip_frame(struct span stream, size_t *ret_len, bool *ret_ping);

/* ---- writing ---- */
void sip_write_request(struct wr *w, const char *method, struct span uri); /* start line */
void sip_write_status(struct wr *w, unsigned status, const char *reason); /* reason NULL: the usual one */
const char *sip_reason_phrase(unsigned status);
void sip_write_header(struct wr *w, enum sip_h h, struct span value);
void sip_write_headerf(struct wr *w, enum sip_h h, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Content-Type (if body), Content-Length, blank line, body. */
void sip_write_end(struct wr *w, const char *content_type, struct span body);
/* The header line "Via: SIP/2.0/UDP host:port;rport;branch=..." */
void sip_write_via(struct wr *w, enum transport t, const struct addr *sent_by, const char *branch);
/* The head of a response to rq (8.2.6.2): status line, Vias (topmost with received and rport as `from` wants them, 18.2.1 and
 * RFC 3581), From, To (with to_tag where it has none and to_tag is not NULL), Call-ID, CSeq. sip_write_end() finishes it. */
void sip_write_response(struct wr *w, const struct sip_msg *rq, const struct addr *from, unsigned status,
			const char *reason, const char *to_tag);

/* Copies a message with changes: what a proxy forwards (16.6, 16.7). Lines are copied as they are, in their order. */
struct sip_edit {
	struct span request_uri; /* new one, empty: unchanged */
	struct span push_via; /* a whole new topmost Via value */
	struct addr received; /* family set: received/rport are added to the old topmost Via */
	bool pop_via; /* the topmost Via element goes away */
	unsigned pop_route; /* so many Route elements go away, from the top */
	struct span push_record_route; /* value */
	int max_forwards; /* -1: unchanged (added as 70 to a request that lacks it) */
	bool drop_proxy_authorization;
};
void sip_write_edited(struct wr *w, const struct sip_msg *m, const struct sip_edit *e);
