/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* How a peer proves itself, beside its key: psk, ppk and ca of a [peer] section. */
#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "vpn/config_impl.h"

#define PPK_MIN 32 /* RFC 8784, 6: 256 bits of entropy */

/* Something that was written, in UTF-8, perhaps with the line's end, or with zeros between or behind. */
static bool is_text(struct span v)
{
	for (size_t i = 0; i < v.len;) {
		uint8_t c = v.p[i++];
		size_t n = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc2 ? 1 : 0; /* bytes that follow */

		if (c < 0x80 ? (c < ' ' || c > '~') && !memchr("\t\n\r", c, sizeof("\t\n\r")) : !n || c > 0xf4)
			return false;
		for (; n; n--)
			if (i == v.len || (v.p[i++] & 0xc0) != 0x80)
				return false;
	}
	return true;
}

/* The hash of a PSK is seen by everybody on the signalling path, so it must be one that nobody can guess. Of generated keys
 * none looks like this, but for one in 200000: text, few different bytes, or a series. */
static bool guessable(const struct cfg_secret *s)
{
	bool text = is_text(span_of(s->bytes, s->len)), series = true, seen[256] = { false };
	size_t n_different = 0;

	for (size_t i = 0; i < s->len; i++) {
		if (i > 1)
			series = series &&
				 (uint8_t)(s->bytes[i] - s->bytes[i - 1]) == (uint8_t)(s->bytes[1] - s->bytes[0]);
		n_different += !seen[s->bytes[i]];
		seen[s->bytes[i]] = true;
	}
	return text || series || n_different <= s->len / 2;
}

enum err config_set_secret(struct span v, size_t min, struct cfg_secret *ret, const char **expected)
{
	struct cfg_secret s = { .len = 0 };
	enum err e = ERR_MALFORMED;

	*expected = min < PPK_MIN ? "0x and 32 to 128 hex digits that were generated, e.g. by `openssl rand -hex 32`"
				  : "0x and 64 to 128 hex digits that were generated, e.g. by `openssl rand -hex 32`";
	if (span_starts(v, "0x"))
		e = hex_parse(span_from(v, 2), false, s.bytes, sizeof(s.bytes), &s.len);
	if (e == OK && (s.len < min || guessable(&s)))
		e = ERR_MALFORMED;
	if (e == OK)
		*ret = s;
	secret_wipe(&s, sizeof(s));
	return e == OK ? OK : ERR_MALFORMED;
}

enum err config_set_ppk(struct span v, struct cfg_peer *p, const char **expected)
{
	struct span id = span_word(&v);

	*expected = "a name of up to 64 letters, digits and .-_+/= (the PPK_ID), a blank, and the key";
	for (size_t i = 0; i < id.len; i++)
		if (!ascii_is_alpha(id.p[i]) && !ascii_is_digit(id.p[i]) && !strchr(".-_+/=", id.p[i]))
			return ERR_MALFORMED;
	if (!id.len || !span_trim(v).len || span_copy_str(id, p->ppk_id, sizeof(p->ppk_id)) != OK)
		return ERR_MALFORMED;
	return config_set_secret(span_trim(v), PPK_MIN, &p->ppk, expected);
}

enum err config_set_ca_file(struct span v, struct cfg_peer *p, const char **expected)
{
	*expected = "the path of a CA certificate (PEM), from / on";
	if (!v.len || v.p[0] != '/' || span_copy_str(v, p->ca_file, sizeof(p->ca_file)) != OK)
		return ERR_MALFORMED;
	return OK;
}

enum err config_check_proofs(const struct cfg_peer *p, const char **expected)
{
	*expected = "bare = yes with psk or ca";
	if (!p->bare && (p->psk.len || p->ca_file[0]))
		return ERR_MALFORMED;
	*expected = "psk alone, without cert, key or ca: with it no certificate is shown";
	if (p->psk.len && (p->has_cert || p->n_keys || p->ca_file[0]))
		return ERR_MALFORMED;
	*expected = "cert, key, ca or psk with bare = yes";
	if (p->bare && !p->has_cert && !p->n_keys && !p->ca_file[0] && !p->psk.len)
		return ERR_MALFORMED;
	return OK;
}

/* Whoever knows a shared key is whoever has it: two peers with one would each be both. */
enum err config_check_secrets(const char *file, const struct config *c, struct conf_error *e)
{
	for (unsigned i = 0; i < c->n_peers; i++)
		for (unsigned k = 0; c->peers[i].psk.len && k < i; k++)
			if (c->peers[k].psk.len == c->peers[i].psk.len &&
			    secret_eq(c->peers[k].psk.bytes, c->peers[i].psk.bytes, c->peers[i].psk.len))
				return conf_fail(e, file, 0,
						 "[peer %s] has the psk of [peer %s]; expected one of its own",
						 c->peers[i].aor, c->peers[k].aor);
	return OK;
}

enum err config_set_ca(struct cfg_peer *p, struct span pem)
{
	struct cert_anchor *a;
	enum err e = cert_anchor_new(pem, &a);

	if (e != OK)
		return e;
	cert_anchor_free(p->ca);
	p->ca = a;
	return OK;
}

void config_wipe_peer(struct cfg_peer *p)
{
	cert_anchor_free(p->ca);
	p->ca = NULL;
	secret_wipe(&p->psk, sizeof(p->psk));
	secret_wipe(&p->ppk, sizeof(p->ppk));
}
