/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/answer.c - answers of our own. Those that need no memory of the request are given without a transaction (RFC 3261,
 * 8.2.7): what a stranger asks for costs nothing that lasts. */
#include <string.h>

#include "base/text.h"
#include "exchange/impl.h"

/* 8.2.7: the tag is a function of the request, so that repeats get the same one and an ACK is known by it. */
static void own_tag(struct exchange *x, const struct sip_msg *m, char ret[TAG_TEXT])
{
	struct span parts[] = { m->call_id, SPAN_LIT("\n"), m->from_tag };
	uint8_t mac[HASH_MAX];

	if (hmac_parts(HASH_SHA256, SPAN_OF(x->tag_secret), parts, 3, mac) != OK)
		memset(mac, 0, sizeof(mac));
	hex_write(span_of(mac, (TAG_TEXT - 1) / 2), ret, TAG_TEXT);
}

bool answer_tag_is_ours(struct exchange *x, const struct sip_msg *m)
{
	char tag[TAG_TEXT];

	own_tag(x, m, tag);
	return span_eq_str(m->to_tag, tag);
}

struct wr answer_begin(struct exchange *x, const struct path *path, const struct sip_msg *rq, unsigned status,
		       const char *reason)
{
	struct wr w = wr_of(x->text, sizeof(x->text));
	char tag[TAG_TEXT];

	own_tag(x, rq, tag);
	sip_write_response(&w, rq, &path->remote, status, reason, status == 100 ? NULL : tag);
	return w;
}

void answer_send(struct exchange *x, const struct path *path, const struct sip_msg *rq, struct wr *w)
{
	struct path to = sip_reply_path(path, rq);

	sip_write_end(w, NULL, SPAN_NONE);
	if (!w->bad)
		(void)!sip_txns_send(x->txns, &to, wr_done(w)); /* a full queue is like a lost datagram */
}

void answer_stateless(struct exchange *x, const struct path *path, const struct sip_msg *rq, unsigned status,
		      const char *reason)
{
	struct wr w = answer_begin(x, path, rq, status, reason);

	answer_send(x, path, rq, &w);
}

bool answer_done(struct sip_txn *txn, uint64_t now_us, unsigned status, const struct wr *w)
{
	if (!w->bad && sip_txn_respond(txn, now_us, status, wr_done(w)) == OK)
		return true;
	if (status >= 200)
		sip_txn_forget(txn);
	return false;
}

bool answer_txn(struct exchange *x, uint64_t now_us, struct sip_txn *txn, unsigned status, const char *reason)
{
	struct wr w = answer_begin(x, sip_txn_path(txn), sip_txn_request_msg(txn), status, reason);

	sip_write_end(&w, NULL, SPAN_NONE);
	return answer_done(txn, now_us, status, &w);
}
