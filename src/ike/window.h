/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/window.h - message IDs, retransmission and duplicates with a window of 1 (RFC 7296, 2.1 to 2.3).
 * It knows bytes and time only. All zero is a valid window. Bounded: one request of ours and
 * one response are kept. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"

/* Ours (2.4 leaves it open): sent at 0, 0.5, 1.5, 3.5, 7.5, 15.5, 23.5 s, given up at 31.5 s. */
#define IKE_RTO_MS 500
#define IKE_RTO_MAX_MS 8000
#define IKE_SENDS_MAX 7

struct ike_window {
	/* our requests */
	uint32_t next_out; /* ID of the next one */
	bool waiting; /* one is out; its ID is next_out - 1 */
	uint8_t *request;
	size_t request_len;
	unsigned n_sends, sends_max; /* sends_max 0: IKE_SENDS_MAX */
	uint64_t rto_us, due_us;
	/* the peer's requests */
	uint32_t next_in;
	bool answering; /* next_in is being worked on: its duplicates are dropped */
	uint8_t *response; /* to next_in - 1 */
	size_t response_len;
	uint8_t request_hash[32]; /* of the request it answers */
};
void ike_window_done(struct ike_window *w);

/* May we send a request? */
bool ike_window_free(const struct ike_window *w);
/* Keeps a copy of our request with ID next_out and starts its clock; the caller sends it the first
 * time. ERR_WRONG_STATE: one is out. ERR_LIMIT: no IDs left (2.2). */
MUST_CHECK enum err ike_window_send(struct ike_window *w, uint64_t now_us, struct span request);
/* Replaces the request that is out, under the same ID and with a fresh clock (2.6: the same IKE_SA_INIT
 * again with a cookie or another KE). */
MUST_CHECK enum err ike_window_resend(struct ike_window *w, uint64_t now_us, struct span request);
/* What is out is to be sent again now, and its clock starts anew: it has another way to go. False: nothing is out. */
bool ike_window_restart(struct ike_window *w, uint64_t now_us, struct span *ret);
/* The request that is out was answered and this one follows at once. On failure nothing has changed. */
MUST_CHECK enum err ike_window_next(struct ike_window *w, uint64_t now_us, struct span request);
/* Is that the ID we wait for? */
bool ike_window_expects(const struct ike_window *w, uint32_t id);
/* The answer was accepted: the request is forgotten. */
void ike_window_answered(struct ike_window *w);

enum ike_window_due { IKE_DUE_NOTHING, IKE_DUE_RESEND, IKE_DUE_FAILED };
/* RESEND: *ret is to be sent again, borrowed until the next call. */
enum ike_window_due ike_window_tick(struct ike_window *w, uint64_t now_us, struct span *ret);
uint64_t ike_window_deadline_us(const struct ike_window *w);

enum ike_window_in {
	IKE_IN_NEW, /* the next in order: work on it */
	IKE_IN_AGAIN, /* answered before: *ret_response goes out once more */
	IKE_IN_DROP /* in work, too old, too new, or other bytes under a known ID */
};
enum ike_window_in ike_window_request(const struct ike_window *w, uint32_t id, struct span request,
				      struct span *ret_response);
/* Work on next_in goes on after this call; its duplicates are dropped until the answer. */
void ike_window_answering(struct ike_window *w);
/* The response to next_in: kept for duplicates, next_in moves on. request_hash: SHA-256 of the
 * request. On failure nothing has changed. */
MUST_CHECK enum err ike_window_respond(struct ike_window *w, const uint8_t request_hash[32], struct span response);
