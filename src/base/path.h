/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/path.h - where bytes came from or shall go, and the queue in which a protocol
 * module keeps what it wants sent until the loop pulls it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"

#define PATH_CHANNEL_HDR 4 /* what stands before a datagram of a channel: its number, a length (RFC 8656, 12.4) */

enum transport {
	TRANSPORT_UDP,
	TRANSPORT_TCP,
	TRANSPORT_TLS,
	TRANSPORT_ESP /* ESP without UDP (RFC 4303): addresses have no ports */
};

/* Datagrams: local is our address on this host (its port names the socket), remote the
 * other end's. Streams: `stream` is the connection's number, unique in this process and
 * never 0 or used twice; it is what tells two connections to one address apart. */
struct path {
	enum transport transport;
	struct addr local, remote;
	uint64_t stream; /* 0 for datagrams, and for "open one if need be" */
	uint16_t channel; /* TURN channel, 0: none */
	uint8_t tos; /* DSCP << 2 | ECN of a datagram */
	char tls_name[64]; /* verified name of the TLS peer, "" otherwise */
};

enum stream_event { STREAM_OPEN, STREAM_CLOSED, STREAM_FAILED };

const char *transport_name(enum transport t); /* "UDP", "TCP", "TLS", "ESP" */
bool path_eq(const struct path *a, const struct path *b); /* transport, addresses, stream, channel */

/* What a module wants done by the loop. */
enum out_kind {
	OUT_SEND, /* bytes to path */
	OUT_OPEN, /* open the stream path->stream to path->remote */
	OUT_CLOSE /* close the stream path->stream once it is flushed */
};

struct out {
	enum out_kind kind;
	struct path path;
	struct span bytes; /* OUT_SEND; borrowed until the next outq_poll on the same queue */
};

/* A FIFO, bounded in items and bytes. Owner: the module that it belongs to. */
struct outq;
struct outq *outq_new(size_t max_items, size_t max_bytes); /* NULL: out of memory */
void outq_free(struct outq *q);
/* Bytes are copied. ERR_LIMIT: full, nothing queued, n_dropped counted. */
MUST_CHECK enum err outq_push(struct outq *q, enum out_kind kind, const struct path *path, struct span bytes);
/* Takes the oldest. False: empty. */
bool outq_poll(struct outq *q, struct out *ret);
size_t outq_len(const struct outq *q);
uint64_t outq_dropped(const struct outq *q);
