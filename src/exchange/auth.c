/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/auth.c - digest, the server's side (RFC 3261, 22; RFC 8760). Nonces are stateless and good for NONCE_AGE_S; the
 * nonce count is not kept, so what is overheard can be repeated for as long: on the road that is TLS's to prevent. */
#include <string.h>

#include "exchange/impl.h"

/* One header of credentials. */
static int check(struct exchange *x, uint64_t now_us, const struct sip_msg *rq, struct span value, bool *ret_stale)
{
	/* Somebody who is nobody takes as long as somebody with a wrong password. */
	static const char nobody[] = "0000000000000000000000000000000000000000000000000000000000000000";
	struct sip_credentials c;
	const char *ha1 = nobody;
	enum err age, e;
	int user;

	if (sip_credentials_parse(value, &c) != OK || !span_eq_str(c.realm, x->cfg->realm))
		return -1;
	age = sip_nonce_check(&x->nonces, now_us, c.nonce, NONCE_AGE_S);
	if (age != OK && age != ERR_WRONG_STATE)
		return -1;
	user = exchange_user_find(x, c.user);
	if (user >= 0)
		ha1 = c.hash == HASH_SHA256 ? x->cfg->users[user].ha1 : x->cfg->users[user].ha1_md5;
	e = sip_digest_verify(&c, ha1, rq->method_text);
	/* RFC 7616, 3.4.6: the credentials are for this request, not for another one. */
	if (e != OK || user < 0 || !ha1[0] || !span_eq(c.uri, rq->uri_text))
		return -1;
	if (age == OK)
		return user;
	*ret_stale = true;
	return -1;
}

int auth_user(struct exchange *x, uint64_t now_us, const struct sip_msg *rq, enum sip_h h, bool *ret_stale)
{
	const struct sip_header *header;
	unsigned at = 0;
	int user = -1;

	*ret_stale = false;
	/* Proxies on the way may have headers of their own; of ours the first is meant. */
	for (unsigned n = 0; n < 4 && user < 0 && (header = sip_header_next(rq, h, &at)); n++)
		user = check(x, now_us, rq, header->value, ret_stale);
	return user;
}

void auth_challenge(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq,
		    unsigned status, bool stale)
{
	/* RFC 8760, 2.4: in the order of preference. */
	static const char *const algorithms[] = { "SHA-256", "MD5" };
	enum sip_h h = status == 401 ? H_WWW_AUTHENTICATE : H_PROXY_AUTHENTICATE;
	struct wr w = answer_begin(x, path, rq, status, NULL);
	char nonce[SIP_NONCE_TEXT];

	if (sip_nonce_make(&x->nonces, now_us, nonce) != OK)
		return;
	for (unsigned i = 0; i < 2; i++)
		sip_write_headerf(&w, h, "Digest realm=\"%s\", nonce=\"%s\", algorithm=%s, qop=\"auth\"%s",
				  x->cfg->realm, nonce, algorithms[i], stale ? ", stale=true" : "");
	x->stats.n_challenged++;
	answer_send(x, path, rq, &w);
}
