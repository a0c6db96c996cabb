/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/worker.h - the threads of the data plane: one a shard (esp/set.h), between its sockets and its queues of the TUN.
 *
 * A worker has its shard's plane while it works on a batch, and leaves it while it waits for packets; the engine's thread has it
 * between worker_enter() and worker_leave(). One lock a batch, none a packet, and nothing is allocated after the start. Who wants
 * the plane has it after the train or the super-packet that the worker is at, not after the batch. What a
 * worker finds that is not its own goes to the engine's thread over a socket pair, which is bounded: strays beyond that are
 * dropped and counted.
 *
 *   worker.c     life, the lock, strays      worker_io.c   packets */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "esp/merge.h"
#include "esp/set.h"
#include "esp/share.h"
#include "net/buffers.h"

/* Read from the TUN before the sockets have their turn: super-packets by their bytes; of single packets so many that they make
 * trains. */
#define WORKER_READS 64
#define WORKER_READ_BYTES (8 * 65536)
#define WORKER_WRITES 64 /* into the TUN, of one batch */
/* Packets into the TUN before those whom they are for may have the processor: a socket holds less than a hundred of 1200 bytes by
 * default, and its program, woken on this processor, would not run before the batch has ended. */
#define WORKER_AT_ONCE 16
/* Of the TUN, each with room of its own in the kernel, which leads a flow to the queue that its other direction was written to: that of
 * the address it comes from. So what floods one is not in the way of what others send, unless they share it. */
#define WORKER_QUEUES 4

enum stray_kind {
	STRAY_DATAGRAM = 1, /* not ESP (in ChannelData or not), or of another shard's SA */
	STRAY_INNER, /* came in through a call, for the engine to look at */
	STRAY_SUPER /* from the TUN, of no SA of this shard */
};
struct stray {
	enum stray_kind kind;
	struct path path; /* DATAGRAM */
	struct vnet vnet; /* SUPER */
};

/* What is counted here and not by the plane. Written by the worker alone. */
struct worker_counters {
	_Atomic uint64_t tun_full; /* packets that the TUN had no room for */
	_Atomic uint64_t unsent; /* datagrams that no socket took */
	_Atomic uint64_t strays_lost;
	_Atomic uint64_t unreadable; /* from the TUN, contradicting themselves */
	_Atomic uint64_t
		shed; /* datagrams of calls that had more than their share of a socket that was full (esp/share.h) */
};

struct worker {
	/* set by the engine before the start */
	unsigned shard, n_shards;
	unsigned divisor; /* SPI mod this is the shard (esp/set.h) */
	struct esp_plane *plane;
	int tun_fd[WORKER_QUEUES]; /* n_queues; -1: none */
	unsigned n_queues;
	int udp_fd[2], raw_fd[2]; /* IPv4, IPv6; -1: none */
	uint16_t port[2];
	struct esp_merge_config merge_cfg;
	int tell_fd; /* an eventfd of the engine's: the plane has news */
	/* the engine's side */
	int stray_fd; /* struct stray and the bytes, one a datagram */
	atomic_bool pinging; /* echo replies go to the engine first */
	atomic_bool news; /* the plane has some; taken back by the engine */
	struct worker_counters counters;
	/* the worker's own */
	pthread_t thread;
	bool started, stop;
	pthread_mutex_t lock;
	atomic_uint wanted; /* who waits for the lock */
	pthread_cond_t left; /* they have had it */
	int wake_fd, stray_out;
	struct udp_sender sender[2];
	struct share share[2]; /* of udp_fd */
	struct esp_merge merge;
	struct esp_write *writes; /* WORKER_WRITES */
	struct net_buffers *memory;
};

/* Lock and descriptors; so worker_enter() may be called before there is a thread. ERR_NOMEM, ERR_SYSTEM. */
MUST_CHECK enum err worker_init(struct worker *w);
MUST_CHECK enum err worker_start(struct worker *w);
void worker_done(struct worker *w); /* ends the thread, closes what worker_init() opened */
void worker_enter(struct worker *w);
void worker_leave(struct worker *w);
/* It looks at its descriptors and its plane's time anew. */
void worker_wake(struct worker *w);
/* Takes a stray; the bytes go to buf, which is VNET_PACKET_MAX long. False: none. */
bool worker_stray(struct worker *w, struct stray *ret, uint8_t *buf, size_t *ret_len);

static inline bool worker_wanted(struct worker *w)
{
	return atomic_load_explicit(&w->wanted, memory_order_relaxed);
}
/* Inside the lock: whoever waits for it has it first. What the plane has given out is void then. */
void worker_yield(struct worker *w);
/* The same, around what takes long and does not concern the plane. */
void worker_apart(struct worker *w);
void worker_back(struct worker *w);

/* worker_io.c: one batch of what is there; inside the lock. */
void worker_net_in(struct worker *w, uint64_t now_us, unsigned family);
void worker_raw_in(struct worker *w, uint64_t now_us, unsigned family);
/* One queue of the TUN, of so many that have something. */
void worker_tun_in(struct worker *w, uint64_t now_us, unsigned queue, unsigned n_ready);
/* A super-packet through a plane, out by these sockets. Of all shards' in the engine's thread; inside that shard's lock. */
struct esp_super_work;
void worker_stray_out(struct worker *w, const struct stray *s, struct span bytes);
/* Datagrams that a plane made. Returns how many did not leave. */
unsigned worker_send(struct udp_sender sender[2], const int raw_fd[2], const struct esp_packet *p, unsigned n);
