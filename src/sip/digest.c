/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "sip/digest.h"

#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "sip/parse.h"

#define HEX_MAX (HASH_MAX * 2 + 1)

/* Parameters of a challenge or of credentials: name=value or name="value", separated by commas (RFC 7235, 2.1). */
static bool next_param(struct span *list, struct span *name, struct span *value)
{
	struct span s = sip_trim(*list);
	size_t end;

	while (s.len && s.p[0] == ',')
		s = sip_trim(span_from(s, 1));
	end = span_find(s, '=');
	if (end == s.len)
		return false;
	*name = sip_trim(span_sub(s, 0, end));
	s = sip_trim(span_from(s, end + 1));
	if (s.len && s.p[0] == '"') {
		for (end = 1; end < s.len && s.p[end] != '"'; end++)
			if (s.p[end] == '\\')
				end++;
		if (end >= s.len)
			return false;
		*value = span_sub(s, 1, end - 1);
		end++;
	} else {
		end = span_find(s, ',');
		*value = sip_trim(span_sub(s, 0, end));
	}
	*list = span_from(s, end);
	return true;
}

static bool hash_named(struct span name, enum hash_alg *ret)
{
	if (span_ieq_str(name, "SHA-256"))
		*ret = HASH_SHA256;
	else if (!name.len || span_ieq_str(name, "MD5"))
		*ret = HASH_MD5;
	else
		return false;
	return true;
}

static bool list_has(struct span list, const char *word)
{
	struct span rest;

	for (; list.p; list = rest)
		if (span_ieq_str(sip_trim(span_cut(list, ',', &rest)), word))
			return true;
	return false;
}

static enum err parse_challenge(struct span value, struct sip_challenge *ret)
{
	struct sip_challenge c = { .hash = HASH_MD5 };
	struct span name, v, algorithm = SPAN_NONE, qop = SPAN_NONE;

	if (!span_istarts(value, "Digest "))
		return ERR_UNSUPPORTED;
	value = span_from(value, 7);
	while (next_param(&value, &name, &v)) {
		if (span_ieq_str(name, "realm"))
			c.realm = v;
		else if (span_ieq_str(name, "nonce"))
			c.nonce = v;
		else if (span_ieq_str(name, "opaque"))
			c.opaque = v;
		else if (span_ieq_str(name, "stale"))
			c.stale = span_ieq_str(v, "true");
		else if (span_ieq_str(name, "algorithm"))
			algorithm = v;
		else if (span_ieq_str(name, "qop"))
			qop = v;
	}
	c.qop_auth = list_has(qop, "auth");
	if (!c.nonce.len || !hash_named(algorithm, &c.hash) || (qop.len && !c.qop_auth))
		return ERR_UNSUPPORTED;
	*ret = c;
	return OK;
}

enum err sip_challenge_best(const struct sip_msg *m, enum sip_h h, struct sip_challenge *ret)
{
	const struct sip_header *x;
	struct sip_challenge c;
	unsigned at = 0;
	enum err e = ERR_NOTFOUND;

	while ((x = sip_header_next(m, h, &at)) != NULL)
		if (parse_challenge(x->value, &c) == OK &&
		    (e != OK || (ret->hash == HASH_MD5 && c.hash == HASH_SHA256))) {
			*ret = c;
			e = OK;
		}
	return e;
}

static enum err hex_hash(enum hash_alg hash, const struct span *parts, size_t n, char ret[HEX_MAX])
{
	uint8_t d[HASH_MAX];
	enum err e = hash_parts(hash, parts, n, d);

	if (e == OK)
		hex_write(span_of(d, hash_size(hash)), ret, HEX_MAX);
	secret_wipe(d, sizeof(d));
	return e;
}

#define COLON SPAN_LIT(":")

/* RFC 7616, 3.4.1 to 3.4.3; without qop as RFC 2617, 3.2.2.1 */
static enum err response_of(const struct sip_credentials *c, const char *ha1, struct span method, char ret[HEX_MAX])
{
	struct span a2[] = { method, COLON, c->uri };
	char ha2[HEX_MAX];
	enum err e = hex_hash(c->hash, a2, 3, ha2);

	if (e != OK)
		return e;
	if (c->qop.len) {
		struct span parts[] = { span_str(ha1), COLON, c->nonce, COLON, c->nc,        COLON,
					c->cnonce,     COLON, c->qop,   COLON, span_str(ha2) };

		return hex_hash(c->hash, parts, 11, ret);
	} else {
		struct span parts[] = { span_str(ha1), COLON, c->nonce, COLON, span_str(ha2) };

		return hex_hash(c->hash, parts, 5, ret);
	}
}

enum err sip_digest_ha1(enum hash_alg hash, const char *user, const char *realm, const char *password,
			char ret[HASH_MAX * 2 + 1])
{
	struct span parts[] = { span_str(user), COLON, span_str(realm), COLON, span_str(password) };

	return hex_hash(hash, parts, 5, ret);
}

static bool quotable(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] == '"' || s.p[i] == '\\' || s.p[i] < 0x20)
			return false;
	return true;
}

enum err sip_digest_answer(const struct sip_challenge *c, const char *user, const char *password, const char *method,
			   struct span uri, uint32_t nc, const char *cnonce, struct wr *w)
{
	struct sip_credentials k = { .hash = c->hash, .nonce = c->nonce, .uri = uri };
	struct span a1[] = { span_str(user), COLON, c->realm, COLON, span_str(password) };
	char ha1[HEX_MAX], response[HEX_MAX], count[9];
	struct wr n = wr_of(count, sizeof(count));
	enum err e;

	wr_fmt(&n, "%08x", nc);
	if (c->qop_auth) {
		k.qop = SPAN_LIT("auth");
		k.cnonce = span_str(cnonce);
		k.nc = wr_done(&n);
	}
	if (!quotable(span_str(user)) || !quotable(uri))
		return ERR_MALFORMED;
	e = hex_hash(c->hash, a1, 5, ha1);
	if (e == OK)
		e = response_of(&k, ha1, span_str(method), response);
	if (e == OK) {
		wr_fmt(w, "Digest username=\"%s\", realm=\"", user);
		wr_span(w, c->realm);
		wr_str(w, "\", nonce=\"");
		wr_span(w, c->nonce);
		wr_str(w, "\", uri=\"");
		wr_span(w, uri);
		wr_fmt(w, "\", response=\"%s\", algorithm=%s", response, c->hash == HASH_SHA256 ? "SHA-256" : "MD5");
		if (c->qop_auth)
			wr_fmt(w, ", qop=auth, nc=%s, cnonce=\"%s\"", count, cnonce);
		if (c->opaque.p) {
			wr_str(w, ", opaque=\"");
			wr_span(w, c->opaque);
			wr_str(w, "\"");
		}
		e = w->bad ? ERR_LIMIT : OK;
	}
	secret_wipe(ha1, sizeof(ha1));
	return e;
}

/* ---- the server's side ---- */

enum err sip_credentials_parse(struct span value, struct sip_credentials *ret)
{
	struct sip_credentials c = { .hash = HASH_MD5 };
	struct span name, v, algorithm = SPAN_NONE;
	static const struct {
		const char *name;
		size_t at;
	} fields[] = {
		{ "username", offsetof(struct sip_credentials, user) },
		{ "realm", offsetof(struct sip_credentials, realm) },
		{ "nonce", offsetof(struct sip_credentials, nonce) },
		{ "uri", offsetof(struct sip_credentials, uri) },
		{ "response", offsetof(struct sip_credentials, response) },
		{ "cnonce", offsetof(struct sip_credentials, cnonce) },
		{ "nc", offsetof(struct sip_credentials, nc) },
		{ "qop", offsetof(struct sip_credentials, qop) },
	};

	if (!span_istarts(value, "Digest "))
		return ERR_UNSUPPORTED;
	value = span_from(value, 7);
	while (next_param(&value, &name, &v)) {
		if (span_ieq_str(name, "algorithm"))
			algorithm = v;
		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
			if (span_ieq_str(name, fields[i].name))
				memcpy((uint8_t *)&c + fields[i].at, &v, sizeof(v));
	}
	if (!hash_named(algorithm, &c.hash))
		return ERR_UNSUPPORTED;
	if (!c.user.len || !c.nonce.len || !c.uri.len || c.response.len != 2 * hash_size(c.hash) ||
	    (c.qop.len && (!span_ieq_str(c.qop, "auth") || !c.cnonce.len || c.nc.len != 8)))
		return ERR_MALFORMED;
	*ret = c;
	return OK;
}

enum err sip_digest_verify(const struct sip_credentials *c, const char *ha1, struct span method)
{
	char want[HEX_MAX];
	uint8_t given[HEX_MAX];
	enum err e = response_of(c, ha1, method, want);

	if (e != OK)
		return e;
	for (size_t i = 0; i < c->response.len; i++)
		given[i] = ascii_lower(c->response.p[i]);
	return c->response.len == strlen(want) && secret_eq(given, want, strlen(want)) ? OK : ERR_AUTH;
}

/* A nonce is its time in milliseconds and an HMAC of that: 8 bytes and 16 bytes, as hex. */
void sip_nonces_init(struct sip_nonces *n, const struct rng *rng)
{
	rng_fill(rng, n->secret, sizeof(n->secret));
}

static enum err nonce_mac(const struct sip_nonces *n, const uint8_t time[8], uint8_t ret[HASH_MAX])
{
	return hmac_of(HASH_SHA256, SPAN_OF(n->secret), span_of(time, 8), ret);
}

enum err sip_nonce_make(const struct sip_nonces *n, uint64_t now_us, char ret[SIP_NONCE_TEXT])
{
	uint8_t bytes[24], mac[HASH_MAX];
	enum err e;

	put_be64(bytes, now_us / 1000);
	e = nonce_mac(n, bytes, mac);
	if (e == OK) {
		memcpy(bytes + 8, mac, 16);
		hex_write(SPAN_OF(bytes), ret, SIP_NONCE_TEXT);
	}
	return e;
}

enum err sip_nonce_check(const struct sip_nonces *n, uint64_t now_us, struct span nonce, uint32_t max_age_s)
{
	uint8_t bytes[24], mac[HASH_MAX];
	size_t len;
	uint64_t made_ms;

	if (nonce.len != 48 || hex_parse(nonce, false, bytes, sizeof(bytes), &len) != OK ||
	    nonce_mac(n, bytes, mac) != OK || !secret_eq(mac, bytes + 8, 16))
		return ERR_AUTH;
	made_ms = be64(bytes);
	return made_ms <= now_us / 1000 && now_us / 1000 - made_ms <= (uint64_t)max_age_s * 1000 ? OK : ERR_WRONG_STATE;
}
