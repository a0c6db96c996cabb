/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/exchange.h - registrar and stateful proxy (RFC 3261, 10 and 16) of one domain. No I/O and no clock: bytes and stream
 * events go in, bytes come out. It forwards on the flow that a registration came by, so that devices behind NATs are
 * reached without a port of their own (docs/exchange.md).
 *
 * What it does not do: it reads no SDP, it holds no key but the digest secrets of its users, and it forwards to nobody
 * but its users' devices. An address that is known but not registered, and a device that answers 480, look the same
 * after the same second (docs/exchange.md).
 *
 * Who may do what:
 * - REGISTER needs digest credentials of the user whose address it is for, every time.
 * - A call (INVITE without a To tag) needs a caller who is a user of ours, and From must be that user's address. The
 *   caller is proved by Proxy-Authorization, or by the stream: one that has carried a REGISTER of that user with good
 *   credentials stands for him until it closes. A datagram stands for nobody: its source address can be anything.
 * - A request inside a dialog is forwarded for whoever shows the token that our Record-Route gave to the two sides of
 *   that call; it is sealed, and good for one Call-ID. Without it (the exchange was restarted) the rule for calls holds,
 *   and the Request-URI must be the Contact of a registered device.
 * - Nothing but calls is forwarded outside of dialogs: other methods could ask devices whether they are there. */
#pragma once
#include "base/conf.h"
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"
#include "base/timers.h"

#define EXCHANGE_USERS_MAX 1024
#define EXCHANGE_BINDINGS_MAX 8 /* of one user: one more, and the one that would expire first is dropped */
#define EXCHANGE_BRANCHES_MAX EXCHANGE_BINDINGS_MAX
#define EXCHANGE_STREAMS_MAX 1024 /* one more, and the oldest that nobody has authenticated on is closed */
#define EXCHANGE_USER_STREAMS 16 /* of one user: what is beyond them gives way when there is no room */
#define EXCHANGE_BUFFERED_MAX ((size_t)16 * 1024 * 1024) /* parts of messages on all streams */
#define EXCHANGE_PENDING_MAX 32 /* unfinished calls of one caller */
#define EXCHANGE_EXPIRES_MIN_S 60
#define EXCHANGE_EXPIRES_MAX_S 3600
#define EXCHANGE_LISTEN_MAX 8
#define EXCHANGE_ABSENT_US SECONDS(1) /* when "not available" is said, whatever the cause */
#define EXCHANGE_STRANGER_US SECONDS(32) /* a stream on which nobody has authenticated is closed after this */
#define EXCHANGE_PASSWORD_MIN 22 /* characters: 128 bits in base64url */

struct exchange_user {
	char name[64];
	char ha1[65]; /* SHA-256 of user:realm:password, hex */
	char ha1_md5[33]; /* "" when only ha1-sha256 is configured */
};

struct exchange_config {
	char domain[256], realm[256], user[64]; /* user: whom the process becomes */
	struct addr listen[EXCHANGE_LISTEN_MAX]; /* SIP, UDP and TCP */
	unsigned n_listen;
	struct addr stun[EXCHANGE_LISTEN_MAX];
	unsigned n_stun;
	struct addr advertise; /* what devices reach us by: in Via and Record-Route; family NONE: where they did */
	struct exchange_user *users; /* owned, sorted by name */
	unsigned n_users;
};
MUST_CHECK enum err exchange_config_parse(const char *file, struct span text, struct exchange_config **ret,
					  struct conf_error *e);
bool exchange_user_name_ok(struct span name); /* letters, digits, '-', '_', '.', at most 63 */
void exchange_config_free(struct exchange_config *c); /* wipes */

struct exchange;
struct exchange_env {
	const struct rng *rng;
	const struct log_sink *log;
	int64_t (*wall_s)(void *arg); /* unix time, for the Date of a registration's answer */
	void *arg;
};
/* cfg and what env points to are borrowed for the life of the exchange. */
MUST_CHECK enum err exchange_new(const struct exchange_env *env, const struct exchange_config *cfg,
				 struct exchange **ret);
void exchange_free(struct exchange *x);

/* A datagram, or bytes of a stream. STREAM_OPEN need not have been told before. After each call that takes now_us, drain
 * exchange_poll_output(). The exchange opens no streams. */
void exchange_input(struct exchange *x, uint64_t now_us, const struct path *path, struct span bytes);
void exchange_stream(struct exchange *x, uint64_t now_us, const struct path *path, enum stream_event ev);
void exchange_tick(struct exchange *x, uint64_t now_us);
uint64_t exchange_deadline_us(const struct exchange *x);
bool exchange_poll_output(struct exchange *x, struct out *ret);

struct exchange_stats {
	uint64_t n_in, n_malformed, n_challenged, n_registered, n_forwarded, n_refused, n_stray, n_streams_closed;
	unsigned n_bindings, n_contexts, n_streams;
};
void exchange_stats(const struct exchange *x, struct exchange_stats *ret);
