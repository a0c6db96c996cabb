/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The file of learned pins, beside a configuration that pins a peer of its own.
 * covers: src/vpn/trust.c */
#include <stdlib.h>
#include <string.h>

#include "vpn/trust.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEX31 "00112233445566778899aabbccddeeff00112233445566778899aabbccddee"
static const char conf[] = "[account]\naor = sip:me@e\nserver = 192.0.2.1\npassword = x\n"
			   "[peer sip:home@e]\nkey = sha-256:" HEX31 "ff\nkey = sha-256:" HEX31 "00\n";

static struct trust *load(struct span text, const struct config *cfg)
{
	struct conf_error e = { .line = 0 };
	struct trust *t;
	enum err r;

	if (trust_new(&t) != OK)
		abort();
	r = trust_load(t, "pins", text, cfg, &e);
	if (r == OK)
		return t;
	if (r != ERR_NOMEM && !e.text[0])
		abort(); /* a refusal without a sentence */
	trust_free(t);
	return NULL;
}

/* What is written is read as the same. */
static void again(const struct trust *t, const struct config *cfg)
{
	struct trust *back;
	unsigned at = 0;
	size_t len;
	char *text;

	if (trust_write(t, &text, &len) != OK)
		abort();
	back = load(span_of(text, len), cfg);
	if (!back)
		abort();
	for (const struct trust_pin *p; (p = trust_next(t, &at));) {
		enum trust_level level = LEVEL_NONE;

		if (trust_check(back, p->aor, p->key, &level) != TRUST_GOOD || level != p->level ||
		    trust_ever_signed(back, p->key) != trust_ever_signed(t, p->key))
			abort();
	}
	trust_free(back);
	free(text);
}

/* The owner's changes to a store that came from a file. */
static void change(struct trust *t)
{
	static const uint8_t fresh[SPKI_HASH] = { 1 };
	struct trust_pin first = { .aor = "" };
	enum trust_level level;
	unsigned at = 0;
	const struct trust_pin *p = trust_next(t, &at);

	if (p)
		first = *p;
	if (trust_has_aor(t, "sip:new@e") || trust_check(t, "sip:new@e", fresh, &level) == TRUST_GOOD)
		return;
	if (trust_add(t, "sip:new@e", fresh, LEVEL_TOFU, 5, false) == OK) {
		trust_mark_signed(t, fresh);
		if (trust_add(t, "sip:new@e", fresh, LEVEL_PINNED, 6, false) != OK ||
		    trust_check(t, "sip:new@e", fresh, &level) != TRUST_GOOD || level != LEVEL_PINNED ||
		    trust_check(t, "sip:else@e", fresh, &level) != TRUST_OTHER_AOR || !trust_ever_signed(t, fresh) ||
		    trust_remove(t, "sip:new@e", fresh) != OK || trust_has_aor(t, "sip:new@e"))
			abort();
	}
	if (!p)
		return;
	/* never a second key without a word, and what the configuration says stays */
	if (trust_add(t, first.aor, fresh, LEVEL_PINNED, 7, false) != ERR_DENIED)
		abort();
	if ((trust_remove(t, first.aor, NULL) == OK) == trust_has_aor(t, first.aor))
		abort();
	if (!trust_has_aor(t, "sip:home@e"))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config *cfg;
	struct conf_error e;
	struct trust *t;

	if (!cfg && config_parse("f", span_str(conf), &cfg, &e) != OK)
		abort();
	t = load(span_of(data, size), cfg);
	if (!t)
		return 0;
	again(t, cfg);
	change(t);
	trust_free(t);
	return 0;
}
