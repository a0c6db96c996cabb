/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/ua.h - a SIP user agent (RFC 3261): registrations and calls of one daemon.
 *
 * No I/O, no clock: bytes, stream events and the time go in; bytes to send, streams to
 * open, a deadline and events are pulled out. After every call that takes now_us, drain
 * sip_ua_poll_output() and sip_ua_poll_event().
 *
 * The agent sends all its requests to the account's server (its outbound proxy). It
 * ACKs every 2xx at once; a description travels in INVITE and 2xx only. What the SDP says
 * is not its business: it hands bodies up and gets bodies down.
 *
 * Numbers of accounts and calls are small integers, never 0, never used twice. */
#pragma once
#include "base/buf.h"
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"

#define SIP_BODY_MAX 16384 /* our limit; a call with a larger body is answered 480 */
#define SIP_AOR_MAX 256

struct sip_ua;

struct sip_ua_config {
	const struct rng *rng; /* borrowed */
	const struct log_sink *log; /* borrowed, may be NULL */
	unsigned max_calls; /* more: 480 without an event */
};

struct sip_account_config {
	const char *aor; /* "sip:me@example.net" (text form of an AOR) */
	const char *user; /* digest user name */
	const char *password; /* copied, wiped at the end */
	struct addr server;
	enum transport transport; /* how to register; a request over 1300 bytes leaves UDP (18.1.1) */
	uint32_t expires_s; /* asked for; 0: 3600, over UDP 120 (and refreshed every 25 s) */
	/* Answer digest challenges although the connection is not verified TLS. Without
	 * it a challenge on such a connection ends in SIP_REGISTER_FAILED / SIP_CALL_FAILED with
	 * status 0 and a reason. */
	bool insecure_digest;
};

MUST_CHECK enum err sip_ua_new(const struct sip_ua_config *cfg, struct sip_ua **ret);
void sip_ua_free(struct sip_ua *ua); /* sends nothing */

/* Adds an account and starts to register it, with refresh, retry after failures (RFC 5626
 * section 4.5 back-off, 30 s to 30 min, 5 s at first) and a new stream when one is lost.
 * `local` is our address as the server's side may reach it: for UDP the socket's address
 * (the daemon looks up the source address); for streams it is taken from STREAM_OPEN. */
MUST_CHECK enum err sip_ua_account_add(struct sip_ua *ua, uint64_t now_us, const struct sip_account_config *cfg,
				       const struct addr *local, unsigned *ret_account);
/* Another local address or server address (roaming, DNS): registers anew. */
void sip_ua_account_rebind(struct sip_ua *ua, uint64_t now_us, unsigned account, const struct addr *local,
			   const struct addr *server);
/* REGISTER with Expires: 0; the account is gone when it is answered or timed out. */
void sip_ua_account_remove(struct sip_ua *ua, uint64_t now_us, unsigned account);
bool sip_ua_registered(const struct sip_ua *ua, unsigned account);
/* Server's Date of the last registration answer (unix time), 0: none. */
int64_t sip_ua_server_date_s(const struct sip_ua *ua, unsigned account);

/* ---- calls ---- */
/* INVITE to `to` (an AOR as text) with an SDP offer. */
MUST_CHECK enum err sip_ua_invite(struct sip_ua *ua, uint64_t now_us, unsigned account, const char *to,
				  struct span offer, unsigned *ret_call);
/* Callee: 180 and the like (status 101 to 199). */
MUST_CHECK enum err sip_ua_ring(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned status);
/* Callee: 200 with the answer; retransmitted until the ACK (13.3.1.4). */
MUST_CHECK enum err sip_ua_answer(struct sip_ua *ua, uint64_t now_us, unsigned call, struct span answer);
/* Callee: the owner knows by other means that the answer has arrived. As if its ACK were here: a lost connection to the
 * server then does not end the call. */
void sip_ua_confirm(struct sip_ua *ua, uint64_t now_us, unsigned call);
/* Callee: a final answer of 300 to 699; the call is over (no SIP_CALL_ENDED follows). */
void sip_ua_reject(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned status);
/* Either side, at any time: CANCEL, BYE, or 480 as the state wants. The call number is
 * dead for the caller at once; what is left of the exchanges runs on inside. */
void sip_ua_hangup(struct sip_ua *ua, uint64_t now_us, unsigned call);
/* Caller: keep this leg (dialog) of the answered ones and BYE all others, present and future. */
void sip_ua_choose_leg(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned leg);
/* Caller: BYE one leg. */
void sip_ua_drop_leg(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned leg);
/* Answers SIP_CALL_REQUEST: 200 with a body (without, where an UPDATE had none), or an error status with SPAN_NONE. */
MUST_CHECK enum err sip_ua_respond(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned request, unsigned status,
				   struct span body);

enum sip_event_kind {
	SIP_REGISTERED, /* account */
	SIP_REGISTER_FAILED, /* account, status (0: no answer or refused by us), reason; retried unless `fatal` */
	SIP_CALL_INCOMING, /* call, from, to, body: a new INVITE. Answer, ring, reject or hang up */
	SIP_CALL_TRYING, /* caller: 100 or first sign of life */
	SIP_CALL_RINGING, /* caller: status 180 to 199 */
	SIP_CALL_ANSWERED, /* caller: leg, body; one for each forked 2xx; already ACKed */
	SIP_CALL_CONFIRMED, /* callee: the ACK is here */
	SIP_CALL_FAILED, /* caller: final non-2xx, or status 408 by time-out, or 0 with a reason
				   * (503: the stream failed); the call is over */
	SIP_CALL_REQUEST, /* re-INVITE or UPDATE inside the dialog: request, body (may be empty) */
	SIP_CALL_ENDED /* BYE or CANCEL by the other side, no ACK, or dialog lost; the call is over */
};

struct sip_event {
	enum sip_event_kind kind;
	unsigned account, call, leg, request;
	unsigned status;
	bool fatal;
	bool is_invite; /* SIP_CALL_REQUEST: a re-INVITE, not an UPDATE */
	const char *reason; /* static or borrowed until the next call; never NULL */
	struct span from, to; /* AOR text of From and To, as the peer wrote them: display only */
	struct span body; /* borrowed until the next call into the agent */
	struct path path;
};

/* ---- the loop's side ---- */
void sip_ua_input(struct sip_ua *ua, uint64_t now_us, const struct path *path, struct span bytes);
void sip_ua_stream(struct sip_ua *ua, uint64_t now_us, const struct path *path, enum stream_event ev);
void sip_ua_tick(struct sip_ua *ua, uint64_t now_us);
uint64_t sip_ua_deadline_us(const struct sip_ua *ua);
/* Every request of ours has its answer: who goes now leaves nothing unsaid. */
bool sip_ua_quiet(const struct sip_ua *ua);
bool sip_ua_poll_output(struct sip_ua *ua, struct out *ret);
bool sip_ua_poll_event(struct sip_ua *ua, struct sip_event *ret);

struct sip_ua_stats {
	uint64_t n_in, n_out, n_malformed, n_unmatched, n_retransmitted;
};
const struct sip_ua_stats *sip_ua_stats(const struct sip_ua *ua);
