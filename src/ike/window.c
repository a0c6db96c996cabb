/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/window.h"

#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "crypto/hash.h"

void ike_window_done(struct ike_window *w)
{
	free(w->request);
	free(w->response);
	*w = (struct ike_window){ .next_out = 0 };
}

static uint8_t *copy_of(struct span s)
{
	uint8_t *p = malloc(s.len ? s.len : 1);

	if (p && s.len)
		memcpy(p, s.p, s.len);
	return p;
}

bool ike_window_free(const struct ike_window *w)
{
	return !w->waiting && w->next_out < UINT32_MAX;
}

static void start(struct ike_window *w, uint64_t now_us, uint8_t *request, size_t len)
{
	free(w->request);
	w->request = request;
	w->request_len = len;
	w->n_sends = 1;
	w->rto_us = MS(IKE_RTO_MS);
	w->due_us = now_us + w->rto_us;
}

enum err ike_window_send(struct ike_window *w, uint64_t now_us, struct span request)
{
	uint8_t *p;

	if (w->waiting)
		return ERR_WRONG_STATE;
	if (w->next_out == UINT32_MAX)
		return ERR_LIMIT;
	p = copy_of(request);
	if (!p)
		return ERR_NOMEM;
	start(w, now_us, p, request.len);
	w->waiting = true;
	w->next_out++;
	return OK;
}

enum err ike_window_resend(struct ike_window *w, uint64_t now_us, struct span request)
{
	uint8_t *p;

	if (!w->waiting)
		return ERR_WRONG_STATE;
	p = copy_of(request);
	if (!p)
		return ERR_NOMEM;
	start(w, now_us, p, request.len);
	return OK;
}

bool ike_window_restart(struct ike_window *w, uint64_t now_us, struct span *ret)
{
	if (!w->waiting)
		return false;
	w->n_sends = 1;
	w->rto_us = MS(IKE_RTO_MS);
	w->due_us = now_us + w->rto_us;
	*ret = span_of(w->request, w->request_len);
	return true;
}

enum err ike_window_next(struct ike_window *w, uint64_t now_us, struct span request)
{
	enum err e = w->next_out == UINT32_MAX ? ERR_LIMIT : ike_window_resend(w, now_us, request);

	if (e == OK)
		w->next_out++;
	return e;
}

bool ike_window_expects(const struct ike_window *w, uint32_t id)
{
	return w->waiting && id == w->next_out - 1;
}

void ike_window_answered(struct ike_window *w)
{
	free(w->request);
	w->request = NULL;
	w->request_len = 0;
	w->waiting = false;
}

enum ike_window_due ike_window_tick(struct ike_window *w, uint64_t now_us, struct span *ret)
{
	if (!w->waiting || now_us < w->due_us)
		return IKE_DUE_NOTHING;
	if (w->n_sends >= (w->sends_max ? w->sends_max : IKE_SENDS_MAX))
		return IKE_DUE_FAILED;
	w->n_sends++;
	w->rto_us = w->rto_us * 2 > MS(IKE_RTO_MAX_MS) ? MS(IKE_RTO_MAX_MS) : w->rto_us * 2;
	w->due_us = now_us + w->rto_us;
	*ret = span_of(w->request, w->request_len);
	return IKE_DUE_RESEND;
}

uint64_t ike_window_deadline_us(const struct ike_window *w)
{
	return w->waiting ? w->due_us : TIME_NEVER;
}

enum ike_window_in ike_window_request(const struct ike_window *w, uint32_t id, struct span request,
				      struct span *ret_response)
{
	uint8_t hash[32];

	if (id == w->next_in)
		return w->answering || id == UINT32_MAX ? IKE_IN_DROP : IKE_IN_NEW;
	if (!w->response || id != w->next_in - 1)
		return IKE_IN_DROP;
	/* The same bytes only: whoever makes up a message under an old ID gets nothing. */
	if (hash_of(HASH_SHA256, request, hash) != OK || memcmp(hash, w->request_hash, sizeof(hash)) != 0)
		return IKE_IN_DROP;
	*ret_response = span_of(w->response, w->response_len);
	return IKE_IN_AGAIN;
}

void ike_window_answering(struct ike_window *w)
{
	w->answering = true;
}

enum err ike_window_respond(struct ike_window *w, const uint8_t request_hash[32], struct span response)
{
	uint8_t *p = copy_of(response);

	if (!p)
		return ERR_NOMEM;
	free(w->response);
	w->response = p;
	w->response_len = response.len;
	memcpy(w->request_hash, request_hash, sizeof(w->request_hash));
	w->next_in++;
	w->answering = false;
	return OK;
}
