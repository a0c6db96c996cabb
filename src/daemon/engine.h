/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/engine.h - inside daemon/ only: the confined process that holds everything that parses foreign bytes.
 *   engine.c   life, wants and events of vpn       pump.c     sockets of the tunnel port, the TUN, SIP
 *   names.c    servers and addresses               control.c  the control socket      command.c  its commands
 *   json.c     events as JSON                      ping.c     echo through a tunnel   journal.c  log lines
 *   reload.c   the configuration read again             network.c  networks that were joined
 *   kernel.c   ESP in the kernel */
#pragma once
#include <jansson.h>
#include "base/timers.h"
#include "daemon/relay.h"
#include "daemon/state.h"
#include "daemon/worker.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/udp.h"
#include "vpn/vpn.h"

struct control;
struct pings;
struct journal;
struct names;

struct ping_report {
	uint64_t token;
	unsigned seq;
	bool lost, last;
	uint32_t rtt_us;
	unsigned n_replies;
};

struct udp_group {
	enum addr_family family;
	int fds[2 + CFG_WORKERS_MAX]; /* control, the workers', the kernel's */
	struct loop_fd *watch, *kernel_watch; /* of control, of the kernel's: what is not for it */
	int raw_fd; /* ESP without UDP, the first worker's; -1: no peer may have it */
	uint16_t port;
	int sip_fd; /* SIP over UDP, port of its own */
	uint16_t sip_port;
	struct loop_fd *sip_watch;
};

struct server_names { /* of one account */
	struct addr server, stun, local;
	struct timer retry;
};

struct engine {
	struct loop *loop;
	struct vpn *vpn;
	const struct daemon_paths *paths;
	const struct identity *identity; /* owned */
	struct log log;
	struct journal *journal;
	struct relays *relays;
	struct streams *streams;
	struct control *control;
	struct pings *pings;
	int monitor_fd, audit_fd;
	struct loop_fd *monitor_watch;
	struct worker workers[CFG_WORKERS_MAX]; /* data.c */
	unsigned n_workers;
	bool kernel; /* takes ESP */
	int tell_fd; /* an eventfd: some worker's plane has news */
	struct loop_fd *tell_watch, *stray_watch[CFG_WORKERS_MAX];
	uint8_t (*trains)[UDP_TRAIN_MAX]; /* CONTROL_TRAINS: of the control sockets, and for one stray */
	struct udp_group groups[2]; /* IPv4, IPv6; family NONE: not there */
	struct udp_buffers *buffers; /* SIP */
	struct addr locals[8];
	unsigned n_locals;
	struct names *lookup; /* names.c */
	struct server_names names[CFG_ACCOUNTS_MAX];
	uint8_t self[16];
	bool stopping, failed;
	uint64_t stop_us;
	uint64_t drops[6]; /* datagrams by demux kind that had no taker */
};

/* engine.c: runs until SIGTERM or SIGINT. Exit code. */
struct engine_start {
	const struct daemon_paths *paths;
	struct config *cfg; /* moved in */
	struct trust *trust;
	struct identity *identity;
	struct journal *journal;
	int control_fd, audit_fd; /* listening socket; append-only file */
};
int engine_run(struct engine_start *s);
void engine_drain(struct engine *e); /* vpn's outputs, wants and events, until there are none */

/* kernel.c */
void kernel_carry_out(struct engine *e, struct esp_kernel_request *rq); /* wipes its key */

/* network.c */
void networks_up(struct engine *e, const struct vpn_want *w);
void networks_down(struct engine *e, const struct vpn_want *w);
void networks_warn(struct engine *e); /* at the start, before the sandbox: what the administrator has to set */

/* reload.c. On error nothing is changed and ret_why says why. */
MUST_CHECK enum err engine_reload(struct engine *e, char *ret_why, size_t cap);

/* data.c: the workers. data_init comes before vpn_new, data_start after the sandbox; data_close before vpn_free. */
MUST_CHECK enum err data_init(struct engine *e, unsigned n, struct vpn_env *env);
MUST_CHECK enum err data_open_tun(struct engine *e);
MUST_CHECK enum err data_start(struct engine *e);
void data_close(struct engine *e);
void data_raw(struct engine *e); /* the raw sockets are there */
void data_esp(struct engine *e, uint64_t now_us, const struct udp_msg *m);
void data_pinging(struct engine *e, bool on); /* are echo replies of interest? */
/* What workers dropped, by a reason that no plane counts. */
struct data_drop {
	const char *name;
	uint64_t n;
};
#define DATA_DROPS 5
void data_drops(const struct engine *e, struct data_drop ret[DATA_DROPS]);

/* pump.c */
#define CONTROL_TRAINS 4
/* A datagram of the tunnel port, of whatever kind. */
void pump_datagram(struct engine *e, uint64_t now_us, struct udp_msg *m);
MUST_CHECK enum err pump_open(struct engine *e, uint16_t port);
void pump_close(struct engine *e);
/* The sockets for ESP without UDP, if the configuration wants them and they are not there yet. */
void pump_open_raw(struct engine *e);
void pump_output(struct engine *e, enum vpn_channel channel, const struct out *o);
/* An inner packet of our own (ping) on its way out. */
void pump_inner(struct engine *e, uint8_t *packet, size_t len);

/* names.c */
MUST_CHECK enum err names_open(struct engine *e);
void names_close(struct engine *e);

/* journal.c: the sink of all log lines: stderr, the last 1000, and who follows. */
MUST_CHECK enum err journal_new(enum log_level level, struct journal **ret);
void journal_free(struct journal *j);
const struct log_sink *journal_sink(const struct journal *j);
/* index from 0 (oldest); until the next call; NULL: no more */
const char *journal_line(struct journal *j, unsigned index);
void journal_catch_up(struct journal *j); /* who follows is told what other threads wrote */
void journal_follow(struct journal *j, void (*line)(void *arg, const char *text), void *arg);

/* control.c */
MUST_CHECK enum err control_new(struct engine *e, int listen_fd, struct control **ret);
void control_free(struct control *c);
void control_event(struct control *c, const struct vpn_event *e);
/* Who made this call, for its forwards. False: nobody is known. */
bool control_owner(const struct control *c, uint64_t owner, uint32_t *ret_uid, bool *ret_any_user);

void control_pinged(struct control *c, const struct ping_report *r);

/* json.c: new references */
json_t *json_of_event(const struct vpn *v, uint64_t now_us, const struct vpn_event *e);
json_t *json_of_status(const struct engine *e, uint64_t now_us, unsigned call); /* call 0: all */
json_t *json_of_line(const char *text); /* a log line: what is not printable ASCII becomes '?' */

/* ping.c */
MUST_CHECK enum err pings_new(struct engine *e, void (*report)(void *arg, const struct ping_report *r), void *arg,
			      struct pings **ret);
void pings_free(struct pings *p);
MUST_CHECK enum err pings_start(struct pings *p, uint64_t token, const uint8_t peer[16], unsigned count);
void pings_cancel(struct pings *p, uint64_t token);
/* Is this inner packet the answer to a ping of ours? Then it is taken. */
bool pings_input(struct pings *p, uint64_t now_us, const uint8_t *packet, size_t len);
