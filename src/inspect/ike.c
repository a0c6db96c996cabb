/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <stdio.h>
#include <stdlib.h>

#include "crypto/secret.h"
#include "ike/fragment.h"
#include "ike/keys.h"
#include "inspect/inspect_impl.h"

static json_t *header(const struct ike_header *h, size_t len)
{
	static const char *const exchanges[] = { "IKE_SA_INIT", "IKE_AUTH", "CREATE_CHILD_SA", "INFORMATIONAL" };
	json_t *o = json_pack("{s:o, s:o, s:i, s:i, s:i}", "spi_i", inspect_hex64(h->spi_i), "spi_r",
			      inspect_hex64(h->spi_r), "next", (int)h->next, "version", (int)h->version, "exchange",
			      (int)h->exchange);

	if (h->exchange >= IKE_SA_INIT && h->exchange <= IKE_INFORMATIONAL)
		o = inspect_set(o, "exchange_name", json_string(exchanges[h->exchange - IKE_SA_INIT]));
	o = inspect_set(o, "from_initiator", json_boolean(h->from_initiator));
	o = inspect_set(o, "is_response", json_boolean(h->is_response));
	o = inspect_set(o, "message_id", json_integer(h->message_id));
	o = inspect_set(o, "length", json_integer((json_int_t)len));
	return o;
}

/* Where the chain breaks: the payload header that does not fit, the second of which there may be only one (any other
 * comes as often as it likes), or what follows the last. */
static size_t chain_offset(struct span body, uint8_t first)
{
	bool seen[256] = { false };
	struct rd r = rd_of(body);
	uint8_t type = first;

	while (type != IKE_P_NONE) {
		size_t at = body.len - rd_left(&r);
		uint8_t next = rd_u8(&r);
		bool often = type == IKE_P_CERT || type == IKE_P_CERTREQ || type == IKE_P_NOTIFY ||
			     type == IKE_P_DELETE || type == IKE_P_VENDOR || type < IKE_P_SA || type > IKE_P_SK;
		uint16_t len;

		rd_skip(&r, 1);
		len = rd_u16(&r);
		rd_skip(&r, len < IKE_PAYLOAD_HDR ? 0 : len - IKE_PAYLOAD_HDR);
		if (r.bad || len < IKE_PAYLOAD_HDR || (seen[type] && !often))
			return at;
		seen[type] = true;
		type = type == IKE_P_SK || type == IKE_P_SKF ? IKE_P_NONE : next;
	}
	return body.len - rd_left(&r);
}

/* One chain as JSON, or a result with the reason. */
static json_t *chain(struct span body, uint8_t first, size_t base, struct ike_chain *c, json_t **ret_no)
{
	const struct ike_payload *bad = NULL;
	enum err e = ike_chain_parse(body, first, c);
	json_t *list;

	*ret_no = NULL;
	if (e != OK) {
		*ret_no = inspect_no("ike", e == ERR_LIMIT ? "too many payloads" : "payload chain",
				     base + chain_offset(body, first));
		return NULL;
	}
	list = inspect_ike_payloads(c, &bad, &e);
	if (!list && bad)
		*ret_no = inspect_no_of("ike", "payload", inspect_ike_payload_name(bad->type), e, base + bad->offset);
	return list;
}

/* The content of the SK or SKF payload p, which is the last of msg: payloads, or the bytes of a fragment, which only
 * together with the others are payloads. NULL: *ret_no is why, or NULL when memory ran out. */
static json_t *opened(struct span msg, const struct ike_payload *p, const struct inspect_key *key, size_t base,
		      json_t **ret_no)
{
	uint8_t *plain = malloc(p->body.len + 1);
	struct ike_chain c;
	struct span inside;
	struct ike_sk sk = { .cipher = NULL };
	json_t *list = NULL;
	size_t e_len = cipher_encr_size(key->alg);
	enum err e =
		plain ? ike_sk_init(&sk, key->alg, span_sub(key->bytes, 0, e_len), span_from(key->bytes, e_len), NULL)
		      : ERR_NOMEM;

	*ret_no = NULL;
	if (e == OK)
		e = ike_sk_open(&sk, msg, p, plain, &inside);
	if (e == OK && p->type == IKE_P_SKF) {
		list = inspect_hex(inside);
	} else if (e == OK) {
		list = chain(inside, p->next, 0, &c, ret_no);
		if (*ret_no) /* offsets inside are not the file's */
			*ret_no = inspect_set(*ret_no, "inside", json_string("SK"));
	} else if (e != ERR_NOMEM) {
		*ret_no = inspect_no_of("ike", "payload", inspect_ike_payload_name(p->type), e,
					base + IKE_HDR + p->offset);
	}
	ike_sk_done(&sk);
	if (plain)
		secret_wipe(plain, p->body.len);
	free(plain);
	return list;
}

/* RFC 7383, 2.5. False: *ret_no is the result instead. */
static bool fragment(const struct ike_payload *p, size_t base, json_t *skf, json_t **ret_no)
{
	struct ike_fragment f;
	enum err e = ike_fragment_parse(p->body, &f);

	*ret_no = NULL;
	if (e == OK)
		return !json_object_set_new(skf, "fragment", json_integer(f.number)) &&
		       !json_object_set_new(skf, "fragments", json_integer(f.total));
	*ret_no = inspect_no_of("ike", "payload", "SKF", e, base + IKE_HDR + p->offset);
	return false;
}

/* Adds to the SK or SKF payload, the last of the list, what is inside. False: *ret_no is the result instead. */
static bool decrypted(struct span msg, const struct ike_header *h, const struct ike_payload *p, size_t base,
		      const struct inspect_options *o, json_t *payloads, json_t **ret_no)
{
	json_t *sk = json_array_get(payloads, json_array_size(payloads) - 1), *inside;
	struct inspect_key key;

	*ret_no = NULL;
	if (p->type == IKE_P_SKF && !fragment(p, base, sk, ret_no))
		return false;
	if (inspect_key_ike(o->keys, h->spi_i, h->spi_r, h->from_initiator, &key) != OK)
		return !json_object_set_new(sk, "decrypted", json_false());
	inside = opened(msg, p, &key, base, ret_no);
	return inside && !json_object_set_new(sk, "decrypted", json_true()) &&
	       !json_object_set_new(sk, p->type == IKE_P_SKF ? "content" : "payloads", inside);
}

json_t *inspect_ike(struct span d, const struct inspect_options *o)
{
	const struct ike_payload *last;
	struct ike_chain c;
	struct ike_header h;
	json_t *payloads, *no;
	size_t skip = 0;
	enum err e = ike_header_parse(d, &h);

	/* as it was on port 4500: behind the non-ESP marker (RFC 3948, 2.2) */
	if (e == ERR_MALFORMED && d.len > 4 && !be32(d.p) && ike_header_parse(span_from(d, 4), &h) != ERR_MALFORMED) {
		skip = 4;
		d = span_from(d, 4);
		e = ike_header_parse(d, &h);
	}
	if (e == ERR_UNSUPPORTED)
		return inspect_no("ike", "another major version", skip + 17);
	if (e != OK)
		return inspect_no("ike", "header or length", d.len < IKE_HDR ? d.len : 24);
	payloads = chain(span_from(d, IKE_HDR), h.next, skip + IKE_HDR, &c, &no);
	if (!payloads)
		return no;
	last = c.n ? &c.p[c.n - 1] : NULL;
	if (last && (last->type == IKE_P_SK || last->type == IKE_P_SKF) &&
	    !decrypted(d, &h, last, skip, o, payloads, &no)) {
		json_decref(payloads);
		return no;
	}
	return inspect_yes("ike", json_pack("{s:o, s:o}", "header", header(&h, d.len), "payloads", payloads));
}
