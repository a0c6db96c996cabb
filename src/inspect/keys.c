/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* inspect/keys.c - keys for the decoders, from a JSON file (docs/inspect.md). Members that are not ours are ignored, so that
 * a tool may keep its own beside them. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "inspect/inspect_impl.h"

#define KEYS_MAX 256 /* SAs in one file */

struct one {
	enum cipher_alg alg;
	uint8_t bytes[CIPHER_KEY_MAX]; /* encryption key and salt, then integrity key */
};

struct entry {
	bool is_esp, esn;
	uint64_t spi_i, spi_r; /* esp: spi in spi_i */
	uint32_t seq_high;
	struct one i, r; /* esp: i */
};

struct inspect_keys {
	unsigned n;
	struct entry list[KEYS_MAX];
};

static const struct {
	const char *name;
	enum cipher_alg alg;
} algs[] = {
	{ "aes-gcm-16-128", CIPHER_AES128_GCM },
	{ "aes-gcm-16-256", CIPHER_AES256_GCM },
	{ "chacha20-poly1305", CIPHER_CHACHA20_POLY1305 },
	{ "aes-cbc-128-hmac-sha2-256-128", CIPHER_AES128_CBC_SHA256 },
	{ "aes-cbc-256-hmac-sha2-256-128", CIPHER_AES256_CBC_SHA256 },
};

static bool spi_of(const json_t *o, const char *key, size_t size, uint64_t *ret)
{
	const char *text = json_string_value(json_object_get(o, key));
	uint8_t bytes[8] = { 0 };
	size_t len;

	if (!text || hex_parse(span_str(text), false, bytes + 8 - size, size, &len) != OK || len != size)
		return false;
	*ret = be64(bytes);
	return true;
}

/* By its name, or AES-GCM by the length of its key. */
static bool alg_of(const json_t *o, size_t key_len, enum cipher_alg *ret)
{
	const char *encr = json_string_value(json_object_get(o, "encr"));

	*ret = key_len == cipher_encr_size(CIPHER_AES128_GCM) ? CIPHER_AES128_GCM : CIPHER_AES256_GCM;
	if (!json_object_get(o, "encr"))
		return true;
	for (size_t i = 0; encr && i < sizeof(algs) / sizeof(algs[0]); i++)
		if (!strcmp(encr, algs[i].name)) {
			*ret = algs[i].alg;
			return true;
		}
	return false;
}

/* encr, integ: names of the members. The integrity key is there exactly when the algorithm needs it. */
static bool key_of(const json_t *o, const char *encr, const char *integ, struct one *ret)
{
	const char *e = json_string_value(json_object_get(o, encr)), *a = json_string_value(json_object_get(o, integ));
	size_t len, a_len = 0;

	if (!e || hex_parse(span_str(e), false, ret->bytes, sizeof(ret->bytes), &len) != OK ||
	    !alg_of(o, len, &ret->alg))
		return false;
	if (a && hex_parse(span_str(a), false, ret->bytes + len, sizeof(ret->bytes) - len, &a_len) != OK)
		return false;
	return len == cipher_encr_size(ret->alg) && a_len == cipher_integ_size(ret->alg);
}

static bool ike_entry(const json_t *o, struct entry *e)
{
	return spi_of(o, "spi_i", 8, &e->spi_i) && spi_of(o, "spi_r", 8, &e->spi_r) &&
	       key_of(o, "sk_ei", "sk_ai", &e->i) && key_of(o, "sk_er", "sk_ar", &e->r);
}

static bool esp_entry(const json_t *o, struct entry *e)
{
	const json_t *high = json_object_get(o, "seq_high");

	e->is_esp = true;
	e->esn = json_is_true(json_object_get(o, "esn"));
	if (high && (!json_is_integer(high) || json_integer_value(high) < 0 || json_integer_value(high) > UINT32_MAX))
		return false;
	e->seq_high = (uint32_t)json_integer_value(high);
	return spi_of(o, "spi", 4, &e->spi_i) && key_of(o, "key", "integ_key", &e->i);
}

static enum err read_list(const json_t *root, const char *name, bool (*read)(const json_t *o, struct entry *e),
			  struct inspect_keys *k)
{
	const json_t *list = json_object_get(root, name), *o;
	size_t i;

	if (list && !json_is_array(list))
		return ERR_MALFORMED;
	json_array_foreach(list, i, o)
	{
		if (k->n == KEYS_MAX)
			return ERR_LIMIT;
		if (!read(o, &k->list[k->n]))
			return ERR_MALFORMED;
		k->n++;
	}
	return OK;
}

enum err inspect_keys_parse(struct span text, struct inspect_keys **ret, const char **ret_why)
{
	json_error_t where;
	json_t *root = json_loadb((const char *)text.p, text.len, JSON_REJECT_DUPLICATES, &where);
	struct inspect_keys *k = calloc(1, sizeof(*k));
	enum err e = k ? OK : ERR_NOMEM;

	*ret_why = k ? "expected a JSON object" : "out of memory";
	if (e == OK && !json_is_object(root))
		e = ERR_MALFORMED;
	if (e == OK) {
		*ret_why = "\"ike\": expected a list of spi_i, spi_r (16 digits each), sk_ei, sk_er (key and salt), "
			   "sk_ai, sk_ar where there are any, and encr";
		e = read_list(root, "ike", ike_entry, k);
	}
	if (e == OK) {
		*ret_why = "\"esp\": expected a list of spi (8 digits), key (key and salt), integ_key, encr, "
			   "esn and seq_high";
		e = read_list(root, "esp", esp_entry, k);
	}
	json_decref(root);
	if (e == OK)
		*ret = k;
	else
		inspect_keys_free(k);
	return e;
}

void inspect_keys_free(struct inspect_keys *k)
{
	if (k)
		secret_wipe(k, sizeof(*k));
	free(k);
}

static void give(const struct entry *e, const struct one *k, struct inspect_key *ret)
{
	*ret = (struct inspect_key){ .alg = k->alg,
				     .bytes = span_of(k->bytes, cipher_key_size(k->alg)),
				     .esn = e->esn,
				     .seq_high = e->seq_high };
}

enum err inspect_key_ike(const struct inspect_keys *k, uint64_t spi_i, uint64_t spi_r, bool from_initiator,
			 struct inspect_key *ret)
{
	for (unsigned i = 0; k && i < k->n; i++)
		if (!k->list[i].is_esp && k->list[i].spi_i == spi_i && k->list[i].spi_r == spi_r) {
			give(&k->list[i], from_initiator ? &k->list[i].i : &k->list[i].r, ret);
			return OK;
		}
	return ERR_NOTFOUND;
}

enum err inspect_key_esp(const struct inspect_keys *k, uint32_t spi, struct inspect_key *ret)
{
	for (unsigned i = 0; k && i < k->n; i++)
		if (k->list[i].is_esp && k->list[i].spi_i == spi) {
			give(&k->list[i], &k->list[i].i, ret);
			return OK;
		}
	return ERR_NOTFOUND;
}
