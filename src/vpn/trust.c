/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/trust.c - the pin store. The file of learned pins has one pin a line,
 *     AOR KEY LEVEL SINCE [signed]
 * with level "none" for a key that pins nothing by itself and is only remembered to have signed,
 * with the key as "sha-256:<hex>" and the time in unix seconds; "#" starts a comment line. */
#include "vpn/trust.h"

#include <stdlib.h>
#include <string.h>

#include "sdp/ike.h"

struct trust {
	struct trust_pin *pins;
	unsigned n, cap;
};

enum err trust_new(struct trust **ret)
{
	struct trust *t = calloc(1, sizeof(*t));

	if (!t)
		return ERR_NOMEM;
	*ret = t;
	return OK;
}

void trust_free(struct trust *t)
{
	if (!t)
		return;
	free(t->pins);
	free(t);
}

static enum err append(struct trust *t, const struct trust_pin *pin)
{
	if (t->n == TRUST_PINS_MAX)
		return ERR_LIMIT;
	if (t->n == t->cap) {
		unsigned cap = t->cap ? 2 * t->cap : 16;
		struct trust_pin *grown = realloc(t->pins, cap * sizeof(*grown));

		if (!grown)
			return ERR_NOMEM;
		t->pins = grown;
		t->cap = cap;
	}
	t->pins[t->n++] = *pin;
	return OK;
}

static struct trust_pin *find(const struct trust *t, const char *aor, const uint8_t key[SPKI_HASH])
{
	for (unsigned i = 0; i < t->n; i++)
		if (!strcmp(t->pins[i].aor, aor) && !memcmp(t->pins[i].key, key, SPKI_HASH))
			return &t->pins[i];
	return NULL;
}

/* A pin, not only the memory of a key that has signed. */
static bool pins(const struct trust_pin *p)
{
	return p->level != LEVEL_NONE;
}

static bool level_parse(struct span v, enum trust_level *ret)
{
	for (enum trust_level l = LEVEL_NONE; l < LEVEL_COUNT; l++)
		if (span_eq_str(v, trust_level_name(l))) {
			*ret = l;
			return true;
		}
	return false;
}

static enum err parse_line(const char *file, unsigned number, struct span line, struct trust_pin *ret,
			   struct conf_error *e)
{
	struct span aor = span_word(&line), key = span_word(&line), level = span_word(&line), since = span_word(&line);
	struct span mark = span_word(&line);
	struct trust_pin pin = { 0 };
	uint64_t s = 0;

	if (sdp_aor_normal(aor, pin.aor, sizeof(pin.aor)) != OK || key_parse(key, pin.key) != OK ||
	    !level_parse(level, &pin.level) || span_u64(since, INT64_MAX, &s) != OK ||
	    (mark.len ? !span_eq_str(mark, "signed") : pin.level == LEVEL_NONE) || span_trim(line).len)
		return conf_fail(e, file, number, "not a pin; expected AOR sha-256:<hex> LEVEL UNIX-TIME [signed]");
	pin.learned = pin.level;
	pin.since_s = (int64_t)s;
	pin.ever_signed = mark.len > 0;
	*ret = pin;
	return OK;
}

static enum err load_text(struct trust *t, const char *file, struct span text, struct conf_error *e)
{
	unsigned number = 0;

	while (text.len) {
		struct span rest, line = span_trim(span_cut(text, '\n', &rest));
		struct trust_pin pin;
		enum err r;

		text = rest;
		number++;
		if (!line.len || line.p[0] == '#')
			continue;
		r = parse_line(file, number, line, &pin, e);
		if (r == OK && !find(t, pin.aor, pin.key))
			r = append(t, &pin);
		if (r == ERR_LIMIT)
			(void)conf_fail(e, file, number, "more pins than %d", TRUST_PINS_MAX);
		if (r != OK)
			return r;
	}
	return OK;
}

/* A [peer] section that lists keys says all keys of that peer: a learned pin beside them contradicts it. */
static enum err add_peer(struct trust *t, const char *file, const struct cfg_peer *p, struct conf_error *e)
{
	char text[KEY_TEXT];

	for (unsigned i = 0; p->n_keys && i < t->n; i++) {
		bool listed = t->pins[i].from_config || !pins(&t->pins[i]);

		for (unsigned k = 0; k < p->n_keys; k++)
			listed |= !memcmp(p->keys[k], t->pins[i].key, SPKI_HASH);
		if (!strcmp(t->pins[i].aor, p->aor) && !listed) {
			(void)conf_fail(
				e, file, 0,
				"%s is pinned to %s, which its [peer] section does not list; remove one of them",
				p->aor, key_text(t->pins[i].key, text));
			return ERR_DENIED;
		}
	}
	for (unsigned k = 0; k < p->n_keys; k++) {
		struct trust_pin pin = { .level = LEVEL_PINNED, .from_config = true };
		struct trust_pin *old = find(t, p->aor, p->keys[k]);
		enum err r;

		if (old) {
			old->level = LEVEL_PINNED;
			old->from_config = true;
			continue;
		}
		memcpy(pin.aor, p->aor, sizeof(pin.aor));
		memcpy(pin.key, p->keys[k], SPKI_HASH);
		r = append(t, &pin);
		if (r != OK)
			return r;
	}
	return OK;
}

enum err trust_load(struct trust *t, const char *file, struct span pins_text, const struct config *cfg,
		    struct conf_error *e)
{
	enum err r = load_text(t, file, pins_text, e);

	for (unsigned i = 0; r == OK && i < cfg->n_peers; i++)
		r = add_peer(t, file, &cfg->peers[i], e);
	return r;
}

enum err trust_write(const struct trust *t, char **ret_text, size_t *ret_len)
{
	size_t cap = 64 + (size_t)t->n * (CFG_AOR_MAX + KEY_TEXT + 48);
	char *text = malloc(cap), key[KEY_TEXT];
	struct wr w = wr_of(text, cap - 1);

	if (!text)
		return ERR_NOMEM;
	wr_str(&w, "# pins of tieline: AOR KEY LEVEL SINCE\n");
	for (unsigned i = 0; i < t->n; i++) {
		const struct trust_pin *p = &t->pins[i];

		/* a configured key is listed only for what was learned of it */
		if (p->learned == LEVEL_NONE && !p->ever_signed)
			continue;
		wr_fmt(&w, "%s %s %s %lld%s\n", p->aor, key_text(p->key, key), trust_level_name(p->learned),
		       (long long)p->since_s, p->ever_signed ? " signed" : "");
	}
	if (w.bad) {
		free(text);
		return ERR_LIMIT;
	}
	text[w.len] = 0;
	*ret_text = text;
	*ret_len = w.len;
	return OK;
}

bool trust_has_aor(const struct trust *t, const char *aor)
{
	for (unsigned i = 0; i < t->n; i++)
		if (pins(&t->pins[i]) && !strcmp(t->pins[i].aor, aor))
			return true;
	return false;
}

static bool has_key(const struct trust *t, const uint8_t key[SPKI_HASH])
{
	for (unsigned i = 0; i < t->n; i++)
		if (pins(&t->pins[i]) && !memcmp(t->pins[i].key, key, SPKI_HASH))
			return true;
	return false;
}

enum trust_match trust_check(const struct trust *t, const char *aor, const uint8_t key[SPKI_HASH],
			     enum trust_level *ret_level)
{
	const struct trust_pin *p = find(t, aor, key);

	if (p && pins(p)) {
		*ret_level = p->level;
		return TRUST_GOOD;
	}
	if (has_key(t, key))
		return TRUST_OTHER_AOR;
	return trust_has_aor(t, aor) ? TRUST_MISMATCH : TRUST_UNKNOWN;
}

enum err trust_add(struct trust *t, const char *aor, const uint8_t key[SPKI_HASH], enum trust_level level,
		   int64_t now_s, bool add_device)
{
	struct trust_pin pin = { .level = level, .learned = level, .since_s = now_s }, *old = find(t, aor, key);

	if (!(old && pins(old)) && (has_key(t, key) || (trust_has_aor(t, aor) && !add_device)))
		return ERR_DENIED;
	if (old) {
		if (level > old->learned) {
			old->learned = level;
			old->since_s = now_s;
		}
		if (level > old->level)
			old->level = level;
		return OK;
	}
	if (span_copy_str(span_str(aor), pin.aor, sizeof(pin.aor)) != OK)
		return ERR_LIMIT;
	memcpy(pin.key, key, SPKI_HASH);
	return append(t, &pin);
}

enum err trust_remove(struct trust *t, const char *aor, const uint8_t *key)
{
	unsigned n_match = 0, kept = 0;

	for (unsigned i = 0; i < t->n; i++)
		if (pins(&t->pins[i]) && !strcmp(t->pins[i].aor, aor) &&
		    (!key || !memcmp(key, t->pins[i].key, SPKI_HASH))) {
			if (t->pins[i].from_config)
				return ERR_DENIED;
			n_match++;
		}
	if (!n_match)
		return ERR_NOTFOUND;
	for (unsigned i = 0; i < t->n; i++)
		if (strcmp(t->pins[i].aor, aor) || (key && memcmp(key, t->pins[i].key, SPKI_HASH)))
			t->pins[kept++] = t->pins[i];
	t->n = kept;
	return OK;
}

void trust_mark_signed(struct trust *t, const uint8_t key[SPKI_HASH])
{
	for (unsigned i = 0; i < t->n; i++)
		if (!memcmp(t->pins[i].key, key, SPKI_HASH))
			t->pins[i].ever_signed = true;
}

bool trust_ever_signed(const struct trust *t, const uint8_t key[SPKI_HASH])
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->pins[i].ever_signed && !memcmp(t->pins[i].key, key, SPKI_HASH))
			return true;
	return false;
}

const struct trust_pin *trust_next(const struct trust *t, unsigned *at)
{
	while (*at < t->n && !pins(&t->pins[*at]))
		++*at;
	return *at < t->n ? &t->pins[(*at)++] : NULL;
}
