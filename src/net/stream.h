/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/stream.h - TCP streams for SIP, numbered as struct path wants it. Non-blocking; output is queued,
 * bounded; a stream that exceeds its bound is closed. (TLS takes its place here: TRANSPORT_TLS.) */
#pragma once
#include "base/path.h"
#include "net/loop.h"

#define STREAM_QUEUE_MAX 262144 /* 256 KiB */
#define STREAM_CONNECT_MS 10000

/* Events and input come from the loop, never from inside streams_output(). A stream ends with exactly one
 * CLOSED (it was open; also after our own OUT_CLOSE, once flushed) or FAILED (it never was); its number is
 * unknown from then on, and what is sent to an unknown number is dropped. An OUT_SEND with stream 0 takes any
 * stream to the remote, or opens one, numbered from first_number up. */
struct streams;
struct streams_config {
	struct loop *loop;
	unsigned max_streams;
	/* first_number: streams we open are numbered by the protocol module (OUT_OPEN); accepted ones get
	 * numbers from first_number up, so that the two never meet. */
	uint64_t first_number;
	uint32_t idle_s; /* accepted streams without traffic are closed; 0: never */
	void (*input)(void *arg, const struct path *path, struct span bytes);
	void (*event)(void *arg, const struct path *path, enum stream_event ev);
	void *arg;
};
MUST_CHECK enum err streams_new(const struct streams_config *cfg, struct streams **ret);
void streams_free(struct streams *s);
/* Takes the listening descriptor. */
MUST_CHECK enum err streams_listen(struct streams *s, int listen_fd, enum transport transport);
/* Carries out OUT_OPEN, OUT_SEND, OUT_CLOSE of a stream transport. */
void streams_output(struct streams *s, const struct out *o);
/* Listening TCP socket. ERR_WRONG_STATE: in use. */
MUST_CHECK enum err tcp_listen(const struct addr *local, int *ret_fd, struct addr *ret_local);
