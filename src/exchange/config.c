/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/config.c - the configuration file of the exchange. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "exchange/exchange.h"
#include "sip/digest.h"

#define SIP_PORT 5060
#define STUN_PORT 3478
#define PASSWORD_MAX 128
#define PASSWORD_SYMBOLS_MIN 8 /* different ones: 22 generated characters have fewer once in 10^13 */

/* Passwords wait here until the realm is known. */
struct secret {
	char password[PASSWORD_MAX];
};

struct builder {
	struct exchange_config *c;
	struct secret *secrets; /* same index as c->users */
	bool has_exchange, has_listen, has_stun;
};

static enum err set_text(struct span v, char *dst, size_t cap)
{
	return v.len ? span_copy_str(v, dst, cap) : ERR_MALFORMED;
}

/* ---- [exchange] ---- */

static bool domain_ok(struct span v)
{
	if (!v.len || v.p[0] == '.' || v.p[0] == '-')
		return false;
	for (size_t i = 0; i < v.len; i++)
		if (!ascii_is_alpha(v.p[i]) && !ascii_is_digit(v.p[i]) && v.p[i] != '-' && v.p[i] != '.')
			return false;
	return true;
}

static enum err exchange_domain(void *o, struct span v, const char **x)
{
	struct exchange_config *c = ((struct builder *)o)->c;
	enum err e;

	*x = "a domain such as example.org";
	if (!domain_ok(v))
		return ERR_MALFORMED;
	e = set_text(v, c->domain, sizeof(c->domain));
	for (char *p = c->domain; *p; p++)
		*p = (char)ascii_lower((uint8_t)*p);
	return e;
}

static enum err exchange_realm(void *o, struct span v, const char **x)
{
	struct exchange_config *c = ((struct builder *)o)->c;

	*x = "text without quotes, backslashes and colons, at most 255 characters";
	for (size_t i = 0; i < v.len; i++)
		if (v.p[i] < 0x20 || v.p[i] > 0x7e || strchr("\"\\:", v.p[i]))
			return ERR_MALFORMED;
	return set_text(v, c->realm, sizeof(c->realm));
}

static enum err exchange_user(void *o, struct span v, const char **x)
{
	struct exchange_config *c = ((struct builder *)o)->c;

	*x = "the name of a system user";
	return set_text(v, c->user, sizeof(c->user));
}

static enum err add_addr(struct span v, uint16_t port, struct addr *list, unsigned *n, const char **x)
{
	struct addr a;

	*x = "an address with an optional port, such as 192.0.2.1:5060 or [2001:db8::1]:5060";
	if (addr_parse(v, port, &a) != OK || addr_is_multicast(&a))
		return ERR_MALFORMED;
	*x = "each address once, at most 8";
	for (unsigned i = 0; i < *n; i++)
		if (addr_eq(&list[i], &a))
			return ERR_MALFORMED;
	if (*n == EXCHANGE_LISTEN_MAX)
		return ERR_LIMIT;
	list[(*n)++] = a;
	return OK;
}

static enum err exchange_listen(void *o, struct span v, const char **x)
{
	struct builder *b = o;

	return add_addr(v, SIP_PORT, b->c->listen, &b->c->n_listen, x);
}

static enum err exchange_stun(void *o, struct span v, const char **x)
{
	struct builder *b = o;

	if (span_eq_str(v, "no") && !b->c->n_stun) {
		b->has_stun = true;
		return OK;
	}
	if (b->has_stun && !b->c->n_stun) {
		*x = "either no or addresses";
		return ERR_MALFORMED;
	}
	b->has_stun = true;
	return add_addr(v, STUN_PORT, b->c->stun, &b->c->n_stun, x);
}

static enum err exchange_advertise(void *o, struct span v, const char **x)
{
	struct exchange_config *c = ((struct builder *)o)->c;

	*x = "the address that devices reach the exchange by, such as 198.51.100.1:5060";
	if (addr_parse(v, SIP_PORT, &c->advertise) != OK || addr_is_any(&c->advertise) || !c->advertise.port)
		return ERR_MALFORMED;
	return OK;
}

static const struct conf_key exchange_keys[] = {
	{ "domain", true, false, exchange_domain },
	{ "listen", false, true, exchange_listen },
	{ "stun", false, true, exchange_stun },
	{ "advertise", false, false, exchange_advertise },
	{ "realm", false, false, exchange_realm },
	{ "user", false, false, exchange_user },
	{ NULL, false, false, NULL },
};

static enum err exchange_begin(void *arg, struct span name, void **ret, const char **x)
{
	struct builder *b = arg;

	(void)name;
	(void)x;
	b->has_exchange = true;
	*ret = b;
	return OK;
}

/* ---- [user NAME] ---- */

static struct exchange_user *newest(struct builder *b)
{
	return &b->c->users[b->c->n_users - 1];
}

bool exchange_user_name_ok(struct span v)
{
	for (size_t i = 0; i < v.len; i++)
		if (!ascii_is_alpha(v.p[i]) && !ascii_is_digit(v.p[i]) && !strchr("-_.", v.p[i]))
			return false;
	return v.len > 0 && v.len < sizeof(((struct exchange_user *)0)->name);
}

static enum err user_begin(void *arg, struct span name, void **ret, const char **x)
{
	struct builder *b = arg;

	*x = "a name of letters, digits, '-', '_' and '.', at most 63";
	if (!exchange_user_name_ok(name))
		return ERR_MALFORMED;
	*x = "at most 1024 users";
	if (b->c->n_users == EXCHANGE_USERS_MAX)
		return ERR_LIMIT;
	b->c->n_users++;
	*ret = b;
	return span_copy_str(name, newest(b)->name, sizeof(newest(b)->name));
}

static unsigned n_symbols(struct span v)
{
	bool seen[256] = { false };
	unsigned n = 0;

	for (size_t i = 0; i < v.len; i++) {
		n += !seen[v.p[i]];
		seen[v.p[i]] = true;
	}
	return n;
}

static enum err user_password(void *o, struct span v, const char **x)
{
	struct builder *b = o;

	*x = "a generated password of 22 characters or more (tieline-exchange user add NAME makes one)";
	for (size_t i = 0; i < v.len; i++)
		if (v.p[i] <= 0x20 || v.p[i] > 0x7e)
			return ERR_MALFORMED;
	if (v.len < EXCHANGE_PASSWORD_MIN || n_symbols(v) < PASSWORD_SYMBOLS_MIN)
		return ERR_MALFORMED;
	return set_text(v, b->secrets[b->c->n_users - 1].password, PASSWORD_MAX);
}

static enum err user_ha1(void *o, struct span v, const char **x)
{
	uint8_t bytes[32];
	size_t len;

	*x = "64 hexadecimal digits: SHA-256 of user:realm:password";
	if (hex_parse(v, false, bytes, sizeof(bytes), &len) != OK || len != sizeof(bytes))
		return ERR_MALFORMED;
	hex_write(SPAN_OF(bytes), newest(o)->ha1, sizeof(newest(o)->ha1));
	secret_wipe(bytes, sizeof(bytes));
	return OK;
}

static enum err user_end(void *arg, void *o, const char **x)
{
	struct builder *b = arg;

	(void)o;
	*x = "password or ha1-sha256, one of the two";
	return !newest(b)->ha1[0] == !b->secrets[b->c->n_users - 1].password[0] ? ERR_MALFORMED : OK;
}

static const struct conf_key user_keys[] = {
	{ "password", false, false, user_password },
	{ "ha1-sha256", false, false, user_ha1 },
	{ NULL, false, false, NULL },
};

static const struct conf_section sections[] = {
	{ "exchange", CONF_UNNAMED, false, exchange_keys, exchange_begin, NULL },
	{ "user", CONF_NAMED, true, user_keys, user_begin, user_end },
	{ NULL, CONF_UNNAMED, false, NULL, NULL, NULL },
};

/* ---- the whole ---- */

static enum err hash_passwords(struct builder *b)
{
	char text[HASH_MAX * 2 + 1];

	for (unsigned i = 0; i < b->c->n_users; i++) {
		struct exchange_user *u = &b->c->users[i];
		const char *password = b->secrets[i].password;

		if (!password[0])
			continue;
		if (sip_digest_ha1(HASH_SHA256, u->name, b->c->realm, password, text) != OK)
			return ERR_SYSTEM;
		memcpy(u->ha1, text, sizeof(u->ha1));
		/* A system without MD5 does without the second challenge for good. */
		if (sip_digest_ha1(HASH_MD5, u->name, b->c->realm, password, text) == OK)
			memcpy(u->ha1_md5, text, sizeof(u->ha1_md5));
	}
	secret_wipe(text, sizeof(text));
	return OK;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct exchange_user *)a)->name, ((const struct exchange_user *)b)->name);
}

static enum err complete(const char *file, struct builder *b, struct conf_error *e)
{
	struct exchange_config *c = b->c;

	if (!b->has_exchange)
		return conf_fail(e, file, 0, "no [exchange]; expected it with domain = DOMAIN");
	if (!c->realm[0])
		memcpy(c->realm, c->domain, sizeof(c->realm));
	if (!c->n_listen)
		c->listen[c->n_listen++] = addr_ip4(0, SIP_PORT);
	for (unsigned i = 0; !b->has_stun && i < c->n_listen; i++) {
		struct addr a = c->listen[i];
		bool again = false;

		a.port = STUN_PORT;
		for (unsigned k = 0; k < c->n_stun; k++)
			again |= addr_eq(&a, &c->stun[k]);
		if (!again)
			c->stun[c->n_stun++] = a;
	}
	if (hash_passwords(b) != OK)
		return ERR_SYSTEM;
	if (c->n_users)
		qsort(c->users, c->n_users, sizeof(c->users[0]), by_name);
	return OK;
}

enum err exchange_config_parse(const char *file, struct span text, struct exchange_config **ret, struct conf_error *e)
{
	struct builder b = { .c = calloc(1, sizeof(*b.c)), .secrets = calloc(EXCHANGE_USERS_MAX, sizeof(*b.secrets)) };
	enum err r = ERR_NOMEM;

	if (b.c)
		b.c->users = calloc(EXCHANGE_USERS_MAX, sizeof(*b.c->users));
	if (b.c && b.c->users && b.secrets) {
		memcpy(b.c->user, "tieline", sizeof("tieline"));
		r = conf_parse(file, text, sections, &b, e);
	}
	if (r == OK)
		r = complete(file, &b, e);
	if (b.secrets)
		secret_wipe(b.secrets, EXCHANGE_USERS_MAX * sizeof(*b.secrets));
	free(b.secrets);
	if (r != OK) {
		exchange_config_free(b.c);
		return r;
	}
	*ret = b.c;
	return OK;
}

void exchange_config_free(struct exchange_config *c)
{
	if (!c)
		return;
	if (c->users)
		secret_wipe(c->users, EXCHANGE_USERS_MAX * sizeof(*c->users));
	free(c->users);
	free(c);
}
