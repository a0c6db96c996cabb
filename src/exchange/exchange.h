/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/exchange.h - registrar and stateful proxy (RFC 3261, 10 and 16) of one domain. No I/O and no clock: bytes and stream
 * events go in, bytes come out. It forwards on the flow that a registration came by, so that devices behind NATs are
 * reached without a port of their own (DESIGN 4.1, 9).
 *
 * What it does not do: it reads no SDP, it holds no key but the digest secrets of its users, and it forwards to nobody
 * but registered devices. An address that is known but not registered, and a device that answers 480, look the same
 * after the same second (DESIGN 4.2). */
#pragma once
#include "base/conf.h"
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"

#define EXCHANGE_USERS_MAX 1024
#define EXCHANGE_BINDINGS_MAX 8           /* of one user */
#define EXCHANGE_BRANCHES_MAX EXCHANGE_BINDINGS_MAX
#define EXCHANGE_STREAMS_MAX 1024
#define EXCHANGE_EXPIRES_MIN_S 60
#define EXCHANGE_EXPIRES_MAX_S 3600
#define EXCHANGE_LISTEN_MAX 8
#define EXCHANGE_ABSENT_US SECONDS(1)     /* when "not available" is said, whatever the cause */

struct exchange_user {
	char name[64];
	char ha1[65];                     /* SHA-256 of user:realm:password, hex */
	char ha1_md5[33];                 /* "" when only ha1-sha256 is configured */
};

struct exchange_config {
	char domain[256], realm[256], user[64];
	struct addr listen[EXCHANGE_LISTEN_MAX];      /* SIP, UDP and TCP */
	unsigned n_listen;
	struct addr stun[EXCHANGE_LISTEN_MAX];
	unsigned n_stun;
	struct addr advertise;            /* what devices reach us by: in Record-Route; family NONE: the first listen address */
	struct exchange_user *users;      /* owned, sorted by name */
	unsigned n_users;
};
MUST_CHECK enum err exchange_config_parse(const char *file, struct span text, struct exchange_config **ret, struct conf_error *e);
void exchange_config_free(struct exchange_config *c);         /* wipes */

struct exchange;
struct exchange_env {
	const struct rng *rng;
	const struct log_sink *log;
	int64_t (*wall_s)(void *arg);     /* unix time, for the Date of a registration's answer */
	void *arg;
};
/* cfg is borrowed for the life of the exchange. */
MUST_CHECK enum err exchange_new(const struct exchange_env *env, const struct exchange_config *cfg, struct exchange **ret);
void exchange_free(struct exchange *x);

void exchange_input(struct exchange *x, uint64_t now_us, const struct path *path, struct span bytes);
void exchange_stream(struct exchange *x, uint64_t now_us, const struct path *path, enum stream_event ev);
void exchange_tick(struct exchange *x, uint64_t now_us);
uint64_t exchange_deadline_us(const struct exchange *x);
bool exchange_poll_output(struct exchange *x, struct out *ret);

struct exchange_stats {
	uint64_t n_in, n_malformed, n_challenged, n_registered, n_forwarded, n_refused;
	unsigned n_bindings, n_contexts;
};
void exchange_stats(const struct exchange *x, struct exchange_stats *ret);
