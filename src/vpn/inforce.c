/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/inforce.c - the pair of descriptions in force, and what an in-dialog offer may ask (docs/protocol.md). One whose canonical
 * form is the one in force for that side is not new: no signature, date or replay check, no new bind; the reply repeats
 * ours. Any other is refused with 488 and the call goes on: changed descriptions come with ICE restart. */
#include <stdlib.h>
#include <string.h>

#include "vpn/impl.h"

static enum err keep(struct kept *k, struct span bytes)
{
	uint8_t *copy = malloc(bytes.len ? bytes.len : 1);

	if (!copy)
		return ERR_NOMEM;
	memcpy(copy, bytes.p, bytes.len);
	free(k->p);
	*k = (struct kept){ copy, bytes.len };
	return OK;
}

enum err inforce_own(struct call *c, struct span text)
{
	return keep(&c->own_text, text);
}

enum err inforce_peer(struct call *c, struct span canon)
{
	return keep(&c->peer_canon, canon);
}

void inforce_done(struct call *c)
{
	free(c->own_text.p);
	free(c->peer_canon.p);
	c->own_text = c->peer_canon = (struct kept){ NULL, 0 };
}

static bool is_in_force(struct vpn *v, const struct call *c, struct span body)
{
	const char *why;
	size_t at, len = 0;
	unsigned index;

	if (sdp_parse(body, v->sdp, &why, &at) != OK)
		return false;
	index = sdp_ike_usable(v->sdp, c->plain_esp);
	return index != SDP_MEDIA_MAX && sdp_ike_canon(v->sdp, index, false, v->canon, sizeof(v->canon), &len) == OK &&
	       span_eq(span_of(v->canon, len), span_of(c->peer_canon.p, c->peer_canon.len));
}

void inforce_request(struct vpn *v, struct call *c, uint64_t now_us, const struct sip_event *e)
{
	struct span own = span_of(c->own_text.p, c->own_text.len);
	enum err r;

	if (!e->body.len) /* an INVITE asks for an offer; an UPDATE only shows that it is there */
		r = sip_ua_respond(v->ua, now_us, e->call, e->request, 200, e->is_invite ? own : SPAN_NONE);
	else if (is_in_force(v, c, e->body))
		r = sip_ua_respond(v->ua, now_us, e->call, e->request, 200, own);
	else
		r = sip_ua_respond(v->ua, now_us, e->call, e->request, 488, SPAN_NONE);
	if (r != OK)
		log_warn(&c->log, "call %u: a request inside the dialog could not be answered: %s", c->id, err_name(r));
}
