/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "vpn/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "sdp/ike.h"

const char *trust_level_name(enum trust_level l)
{
	static const char *const names[LEVEL_COUNT] = { "none", "tofu", "identity", "sas", "pinned" };

	return (unsigned)l < LEVEL_COUNT ? names[l] : "?";
}

/* ---- values ---- */

static enum err set_text(struct span v, char *dst, size_t cap, const char *what, const char **expected)
{
	*expected = what;
	if (!v.len)
		return ERR_MALFORMED;
	return span_copy_str(v, dst, cap);
}

static enum err set_aor(struct span v, char *dst, const char **expected)
{
	*expected = "an address such as sip:me@example.net";
	return sdp_aor_normal(v, dst, CFG_AOR_MAX);
}

/* Names of services: what fits into a GRANT and needs no quoting on a command line. */
static bool name_ok(struct span v)
{
	if (!v.len || v.len > CFG_NAME_MAX)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		uint8_t c = v.p[i];

		if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_' && c != '.')
			return false;
	}
	return true;
}

static enum err set_name(struct span v, char *dst, const char **expected)
{
	*expected = "a name of letters, digits, '-', '_' and '.', at most 63";
	if (!name_ok(v))
		return ERR_MALFORMED;
	return span_copy_str(v, dst, CFG_NAME_MAX + 1);
}

static enum err set_bool(struct span v, bool *ret, const char **expected)
{
	*expected = "yes or no";
	return conf_bool(v, ret);
}

static enum err set_duration(struct span v, uint32_t lo, uint32_t hi, uint32_t *ret, const char **expected)
{
	uint32_t s;
	enum err e = conf_duration_s(v, &s);

	*expected = "a time such as 30s, 5m or 2h within its limits (docs/configuration.md)";
	if (e != OK)
		return e;
	if (s < lo || s > hi)
		return ERR_LIMIT;
	*ret = s;
	return OK;
}

static enum err set_port(struct span v, uint32_t lo, uint16_t *ret, const char **expected)
{
	uint32_t n;

	*expected = lo ? "a port from 1 to 65535" : "a port from 0 to 65535";
	if (span_u32(v, 65535, &n) != OK || n < lo)
		return ERR_MALFORMED;
	*ret = (uint16_t)n;
	return OK;
}

/* "host", "host:port", "[v6]:port", each with ";transport=tcp" or ";transport=udp". */
static enum err set_host(struct span v, uint16_t default_port, struct cfg_host *ret, const char **expected)
{
	struct cfg_host h = { .port = default_port, .transport = TRANSPORT_TCP };
	struct span rest, host = span_cut(v, ';', &rest), port = SPAN_NONE;
	enum err e;

	*expected = "a host name or address, with an optional :port and ;transport=tcp or ;transport=udp";
	if (rest.p) {
		if (span_ieq_str(rest, "transport=udp"))
			h.transport = TRANSPORT_UDP;
		else if (!span_ieq_str(rest, "transport=tcp"))
			return ERR_MALFORMED;
	}
	if (host.len && host.p[0] == '[') {
		struct span after;
		struct addr a;

		host = span_cut(span_from(host, 1), ']', &after);
		if (!after.p || addr_parse_ip(host, &a) != OK || a.family != ADDR_IP6)
			return ERR_MALFORMED;
		if (after.len && after.p[0] != ':')
			return ERR_MALFORMED;
		if (after.len)
			port = span_from(after, 1);
		if (after.len && !port.len)
			return ERR_MALFORMED;
	} else {
		struct span p;

		host = span_cut(host, ':', &p);
		if (p.p) {
			if (!p.len)
				return ERR_MALFORMED;
			port = p;
		}
	}
	if (port.len) {
		const char *unused;

		if (set_port(port, 1, &h.port, &unused) != OK)
			return ERR_MALFORMED;
	}
	if (!host.len)
		return ERR_MALFORMED;
	for (size_t i = 0; i < host.len; i++)
		if (!ascii_is_alpha(host.p[i]) && !ascii_is_digit(host.p[i]) && !strchr(".-_:", host.p[i]))
			return ERR_MALFORMED;
	e = span_copy_str(host, h.host, sizeof(h.host));
	if (e == OK)
		*ret = h;
	return e;
}

/* ---- [daemon] ---- */

static enum err daemon_user(void *o, struct span v, const char **x)
{
	struct config *c = o;

	return set_text(v, c->user, sizeof(c->user), "a user name", x);
}

static enum err daemon_port(void *o, struct span v, const char **x)
{
	return set_port(v, 0, &((struct config *)o)->port, x);
}

static enum err daemon_interface(void *o, struct span v, const char **x)
{
	struct config *c = o;

	*x = "an interface name of at most 15 letters and digits";
	for (size_t i = 0; i < v.len; i++)
		if (!ascii_is_alpha(v.p[i]) && !ascii_is_digit(v.p[i]))
			return ERR_MALFORMED;
	return v.len ? span_copy_str(v, c->interface, sizeof(c->interface)) : ERR_MALFORMED;
}

static enum err daemon_host(void *o, struct span v, const char **x)
{
	bool yes;

	(void)o;
	*x = "no (a tunnel in the host's own namespace is not available in this version)";
	return conf_bool(v, &yes) == OK && !yes ? OK : ERR_UNSUPPORTED;
}

static enum err daemon_dataplane(void *o, struct span v, const char **x)
{
	(void)o;
	*x = "auto or user (kernel is not available in this version)";
	return span_eq_str(v, "auto") || span_eq_str(v, "user") ? OK : ERR_UNSUPPORTED;
}

static enum err daemon_max_calls(void *o, struct span v, const char **x)
{
	struct config *c = o;
	uint32_t n;

	*x = "a number from 1 to 256";
	if (span_u32(v, 256, &n) != OK || !n)
		return ERR_MALFORMED;
	c->max_calls = n;
	return OK;
}

static enum err daemon_dead_after(void *o, struct span v, const char **x)
{
	return set_duration(v, 30, 86400, &((struct config *)o)->dead_after_s, x);
}

static enum err daemon_log_level(void *o, struct span v, const char **x)
{
	struct config *c = o;
	char name[8];

	*x = "error, warn, info or debug";
	if (span_copy_str(v, name, sizeof(name)) != OK || !log_level_parse(name, &c->log_level))
		return ERR_MALFORMED;
	return OK;
}

static const struct conf_key daemon_keys[] = {
	{ "user", false, false, daemon_user },
	{ "port", false, false, daemon_port },
	{ "interface", false, false, daemon_interface },
	{ "host", false, false, daemon_host },
	{ "dataplane", false, false, daemon_dataplane },
	{ "max-calls", false, false, daemon_max_calls },
	{ "dead-after", false, false, daemon_dead_after },
	{ "log-level", false, false, daemon_log_level },
	{ NULL, false, false, NULL },
};

static enum err daemon_begin(void *arg, struct span name, void **ret, const char **x)
{
	(void)name;
	(void)x;
	*ret = arg;
	return OK;
}

/* ---- [account] ---- */

static enum err account_aor(void *o, struct span v, const char **x)
{
	return set_aor(v, ((struct cfg_account *)o)->aor, x);
}

static enum err account_server(void *o, struct span v, const char **x)
{
	return set_host(v, 5060, &((struct cfg_account *)o)->server, x);
}

static enum err account_stun(void *o, struct span v, const char **x)
{
	return set_host(v, 3478, &((struct cfg_account *)o)->stun, x);
}

static enum err account_user(void *o, struct span v, const char **x)
{
	struct cfg_account *a = o;

	return set_text(v, a->user, sizeof(a->user), "a user name", x);
}

static enum err account_password(void *o, struct span v, const char **x)
{
	struct cfg_account *a = o;

	return set_text(v, a->password, sizeof(a->password), "a password", x);
}

static enum err account_password_file(void *o, struct span v, const char **x)
{
	struct cfg_account *a = o;

	return set_text(v, a->password_file, sizeof(a->password_file), "a file name", x);
}

static enum err account_candidates(void *o, struct span v, const char **x)
{
	(void)o;
	*x = "all (relay needs TURN, which is not available in this version)";
	return span_eq_str(v, "all") ? OK : ERR_UNSUPPORTED;
}

static enum err account_key(void *o, struct span v, const char **x)
{
	(void)o;
	*x = "shared (separate is not available in this version)";
	return span_eq_str(v, "shared") ? OK : ERR_UNSUPPORTED;
}

static enum err account_insecure(void *o, struct span v, const char **x)
{
	return set_bool(v, &((struct cfg_account *)o)->insecure_digest, x);
}

static enum err account_ring(void *o, struct span v, const char **x)
{
	return set_duration(v, 1, 600, &((struct cfg_account *)o)->ring_s, x);
}

static enum err account_dpd(void *o, struct span v, const char **x)
{
	return set_duration(v, 5, 3600, &((struct cfg_account *)o)->dpd_s, x);
}

static const struct conf_key account_keys[] = {
	{ "aor", true, false, account_aor },
	{ "server", true, false, account_server },
	{ "stun", false, false, account_stun },
	{ "user", false, false, account_user },
	{ "password", false, false, account_password },
	{ "password-file", false, false, account_password_file },
	{ "candidates", false, false, account_candidates },
	{ "key", false, false, account_key },
	{ "insecure-digest", false, false, account_insecure },
	{ "ring", false, false, account_ring },
	{ "dpd", false, false, account_dpd },
	{ NULL, false, false, NULL },
};

static enum err account_begin(void *arg, struct span name, void **ret, const char **x)
{
	struct config *c = arg;
	struct cfg_account *a;

	(void)name;
	*x = "at most 8 accounts";
	if (c->n_accounts == CFG_ACCOUNTS_MAX)
		return ERR_LIMIT;
	a = &c->accounts[c->n_accounts++];
	*a = (struct cfg_account){ .ring_s = 30, .dpd_s = 30 };
	*ret = a;
	return OK;
}

static enum err account_end(void *arg, void *o, const char **x)
{
	struct config *c = arg;
	struct cfg_account *a = o;

	*x = "either password or password-file";
	if (!a->password[0] == !a->password_file[0])
		return ERR_MALFORMED;
	*x = "each aor in one account only";
	for (unsigned i = 0; i < c->n_accounts; i++)
		if (&c->accounts[i] != a && !strcmp(c->accounts[i].aor, a->aor))
			return ERR_DENIED;
	if (!a->user[0]) {
		struct span host, user = span_cut(span_from(span_str(a->aor), 4), '@', &host);

		*x = "a user of at most 127 characters";
		if (span_copy_str(user, a->user, sizeof(a->user)) != OK)
			return ERR_LIMIT;
	}
	if (!a->stun.host[0]) {
		a->stun = a->server;
		a->stun.port = 3478;
	}
	return OK;
}

/* ---- [service NAME] ---- */

static enum err service_listen(void *o, struct span v, const char **x)
{
	struct cfg_service *s = o;
	struct span rest, proto = span_cut(v, '/', &rest);

	*x = "tcp/PORT or udp/PORT";
	if (span_eq_str(proto, "tcp"))
		s->protocol = 6;
	else if (span_eq_str(proto, "udp"))
		s->protocol = 17;
	else
		return ERR_MALFORMED;
	return set_port(rest, 1, &s->port, &(const char *){ NULL });
}

static enum err service_target(void *o, struct span v, const char **x)
{
	struct cfg_service *s = o;

	*x = "an address and port such as 192.168.1.20:5900 or [fd00::1]:5900";
	if (addr_parse(v, 0, &s->target) != OK || !s->target.port || addr_is_any(&s->target) ||
	    addr_is_multicast(&s->target))
		return ERR_MALFORMED;
	s->has_target = true;
	return OK;
}

static enum err service_accept(void *o, struct span v, const char **x)
{
	(void)o;
	(void)v;
	*x = "no accept (commands that agree to a call are not available in this version)";
	return ERR_UNSUPPORTED;
}

static const struct conf_key service_keys[] = {
	{ "listen", true, false, service_listen },
	{ "target", false, false, service_target },
	{ "accept", false, false, service_accept },
	{ NULL, false, false, NULL },
};

static enum err service_begin(void *arg, struct span name, void **ret, const char **x)
{
	struct config *c = arg;
	struct cfg_service *s;

	*x = "at most 64 services";
	if (c->n_services == CFG_SERVICES_MAX)
		return ERR_LIMIT;
	s = &c->services[c->n_services];
	*s = (struct cfg_service){ 0 };
	if (set_name(name, s->name, x) != OK)
		return ERR_MALFORMED;
	c->n_services++;
	*ret = s;
	return OK;
}

/* Two services on one protocol and port could not be told apart by a selector. */
static enum err service_end(void *arg, void *o, const char **x)
{
	struct config *c = arg;
	struct cfg_service *s = o;

	*x = "each protocol and port in one service only";
	for (unsigned i = 0; i < c->n_services; i++)
		if (&c->services[i] != s && c->services[i].protocol == s->protocol && c->services[i].port == s->port)
			return ERR_DENIED;
	return OK;
}

/* ---- [network NAME] ---- */

static enum err network_begin(void *arg, struct span name, void **ret, const char **x)
{
	(void)arg;
	(void)name;
	(void)ret;
	*x = "no [network] without host = yes";
	return ERR_UNSUPPORTED;
}

static const struct conf_key no_keys[] = { { NULL, false, false, NULL } };

/* ---- [peer AOR] ---- */

static enum err peer_key(void *o, struct span v, const char **x)
{
	struct cfg_peer *p = o;

	*x = "sha-256: and 64 hex digits, at most 8 keys";
	if (p->n_keys == CFG_KEYS_MAX)
		return ERR_LIMIT;
	if (key_parse(v, p->keys[p->n_keys]) != OK)
		return ERR_MALFORMED;
	p->n_keys++;
	return OK;
}

static enum err peer_allow(void *o, struct span v, const char **x)
{
	struct cfg_peer *p = o;

	*x = "names of services, separated by commas or blanks, at most 16";
	while (v.len) {
		size_t n = 0;

		while (n < v.len && v.p[n] != ',' && v.p[n] != ' ' && v.p[n] != '\t')
			n++;
		if (n) {
			if (p->n_allow == CFG_ALLOW_MAX)
				return ERR_LIMIT;
			if (set_name(span_sub(v, 0, n), p->allow[p->n_allow], &(const char *){ NULL }) != OK)
				return ERR_MALFORMED;
			p->n_allow++;
		}
		v = span_from(v, n < v.len ? n + 1 : n);
	}
	return p->n_allow ? OK : ERR_MALFORMED;
}

static enum err peer_ask(void *o, struct span v, const char **x)
{
	bool yes;

	(void)o;
	*x = "no (asking a person for each call is not available in this version)";
	return conf_bool(v, &yes) == OK && !yes ? OK : ERR_UNSUPPORTED;
}

static enum err peer_for(void *o, struct span v, const char **x)
{
	return set_duration(v, 1, 30 * 86400, &((struct cfg_peer *)o)->for_s, x);
}

static enum err peer_require(void *o, struct span v, const char **x)
{
	struct cfg_peer *p = o;

	*x = "pinned, sas, identity or tofu";
	for (enum trust_level l = LEVEL_TOFU; l < LEVEL_COUNT; l++)
		if (span_eq_str(v, trust_level_name(l))) {
			p->require = l;
			return OK;
		}
	return ERR_MALFORMED;
}

static enum err peer_ping(void *o, struct span v, const char **x)
{
	return set_bool(v, &((struct cfg_peer *)o)->ping, x);
}

static enum err peer_bare(void *o, struct span v, const char **x)
{
	return set_bool(v, &((struct cfg_peer *)o)->bare, x);
}

static enum err peer_ice(void *o, struct span v, const char **x)
{
	return set_bool(v, &((struct cfg_peer *)o)->ice, x);
}

static enum err peer_sha1(void *o, struct span v, const char **x)
{
	return set_bool(v, &((struct cfg_peer *)o)->sha1, x);
}

static enum err peer_cert(void *o, struct span v, const char **x)
{
	struct cfg_peer *p = o;

	*x = "sha-256: and 64 hex digits of the DER certificate";
	if (key_parse(v, p->cert) != OK)
		return ERR_MALFORMED;
	p->has_cert = true;
	return OK;
}

static enum err peer_address(void *o, struct span v, const char **x)
{
	struct cfg_peer *p = o;

	*x = "one IPv6 address without a prefix length (our own inner address is IPv6)";
	if (addr_parse_ip(v, &p->address) != OK || p->address.family != ADDR_IP6 || addr_is_any(&p->address) || addr_is_multicast(&p->address) ||
	    addr_is_loopback(&p->address))
		return ERR_MALFORMED;
	p->has_address = true;
	return OK;
}

static enum err peer_unbuilt(void *o, struct span v, const char **x)
{
	(void)o;
	(void)v;
	*x = "key or cert (CAs, shared keys and accepted prefixes are not available in this version)";
	return ERR_UNSUPPORTED;
}

static const struct conf_key peer_keys[] = {
	{ "key", false, true, peer_key },
	{ "allow", false, true, peer_allow },
	{ "ask", false, false, peer_ask },
	{ "for", false, false, peer_for },
	{ "require", false, false, peer_require },
	{ "ping", false, false, peer_ping },
	{ "bare", false, false, peer_bare },
	{ "cert", false, false, peer_cert },
	{ "address", false, false, peer_address },
	{ "ice", false, false, peer_ice },
	{ "sha1", false, false, peer_sha1 },
	{ "ca", false, false, peer_unbuilt },
	{ "psk", false, false, peer_unbuilt },
	{ "ppk", false, false, peer_unbuilt },
	{ "accept-prefix", false, true, peer_unbuilt },
	{ NULL, false, false, NULL },
};

static enum err peer_begin(void *arg, struct span name, void **ret, const char **x)
{
	struct config *c = arg;
	struct cfg_peer *p, *grown;
	char aor[CFG_AOR_MAX];

	if (set_aor(name, aor, x) != OK)
		return ERR_MALFORMED;
	*x = "each peer once";
	if (config_peer(c, aor))
		return ERR_DENIED;
	*x = "at most 1024 peers";
	if (c->n_peers == CFG_PEERS_MAX)
		return ERR_LIMIT;
	grown = realloc(c->peers, (c->n_peers + 1) * sizeof(*grown));
	if (!grown)
		return ERR_NOMEM;
	c->peers = grown;
	p = &grown[c->n_peers++];
	*p = (struct cfg_peer){ .require = LEVEL_PINNED, .ping = true, .ice = true };
	memcpy(p->aor, aor, sizeof(aor));
	*ret = p;
	return OK;
}

static enum err peer_end(void *arg, void *o, const char **x)
{
	struct cfg_peer *p = o;

	(void)arg;
	*x = "bare = yes with cert, address, ice = no or sha1 = yes";
	if (!p->bare && (p->has_cert || p->has_address || !p->ice || p->sha1))
		return ERR_MALFORMED;
	*x = "cert or key with bare = yes";
	if (p->bare && !p->has_cert && !p->n_keys)
		return ERR_MALFORMED;
	*x = "address with cert (the inner address of a key that is not known beforehand)";
	if (p->bare && !p->has_address)
		return ERR_MALFORMED;
	return OK;
}

/* ---- [call NAME] ---- */

static enum err call_begin(void *arg, struct span name, void **ret, const char **x)
{
	(void)arg;
	(void)name;
	(void)ret;
	*x = "no [call] (calls kept up unattended are not available in this version)";
	return ERR_UNSUPPORTED;
}

static const struct conf_section sections[] = {
	{ "daemon", CONF_UNNAMED, false, daemon_keys, daemon_begin, NULL },
	{ "account", CONF_UNNAMED, true, account_keys, account_begin, account_end },
	{ "service", CONF_NAMED, true, service_keys, service_begin, service_end },
	{ "network", CONF_NAMED, true, no_keys, network_begin, NULL },
	{ "peer", CONF_NAMED, true, peer_keys, peer_begin, peer_end },
	{ "call", CONF_NAMED, true, no_keys, call_begin, NULL },
	{ NULL, CONF_UNNAMED, false, NULL, NULL, NULL },
};

/* A name in `allow` that no section defines is a typing error that would silently grant nothing. */
static enum err check_allowed(const char *file, const struct config *c, struct conf_error *e)
{
	for (unsigned i = 0; i < c->n_peers; i++)
		for (unsigned k = 0; k < c->peers[i].n_allow; k++)
			if (!config_service(c, c->peers[i].allow[k]))
				return conf_fail(e, file, 0, "[peer %s] allows \"%s\"; expected the name of a [service]",
						 c->peers[i].aor, c->peers[i].allow[k]);
	return OK;
}

enum err config_parse(const char *file, struct span text, struct config **ret, struct conf_error *e)
{
	struct config *c = calloc(1, sizeof(*c));
	enum err r = ERR_NOMEM;

	if (!c)
		return r;
	*c = (struct config){ .user = "tieline", .interface = "tie0", .port = 4500, .max_calls = 16,
			      .dead_after_s = 120, .log_level = LOG_INFO };
	r = conf_parse(file, text, sections, c, e);
	if (r == OK && !c->n_accounts)
		r = conf_fail(e, file, 0, "no [account]; expected at least one");
	if (r == OK)
		r = check_allowed(file, c, e);
	if (r != OK) {
		config_free(c);
		return r;
	}
	*ret = c;
	return OK;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	secret_wipe(c->accounts, sizeof(c->accounts));
	free(c->peers);
	free(c);
}

const struct cfg_service *config_service(const struct config *c, const char *name)
{
	for (unsigned i = 0; i < c->n_services; i++)
		if (!strcmp(c->services[i].name, name))
			return &c->services[i];
	return NULL;
}

const struct cfg_peer *config_peer(const struct config *c, const char *aor)
{
	for (unsigned i = 0; i < c->n_peers; i++)
		if (!strcmp(c->peers[i].aor, aor))
			return &c->peers[i];
	return NULL;
}
