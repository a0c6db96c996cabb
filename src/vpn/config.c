/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "vpn/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "sdp/ike.h"
#include "vpn/config_impl.h"

const char *trust_level_name(enum trust_level l)
{
	static const char *const names[LEVEL_COUNT] = { "none", "tofu", "identity", "sas", "pinned" };

	return (unsigned)l < LEVEL_COUNT ? names[l] : "?";
}

/* ---- [daemon] ---- */

static enum err daemon_user(void *o, struct span v, const char **x)
{
	struct config *c = o;

	return config_set_text(v, c->user, sizeof(c->user), "a user name", x);
}

static enum err daemon_port(void *o, struct span v, const char **x)
{
	return config_set_port(v, 0, &((struct config *)o)->port, x);
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
	return config_set_duration(v, 30, 86400, &((struct config *)o)->dead_after_s, x);
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
	return config_set_aor(v, ((struct cfg_account *)o)->aor, x);
}

static enum err account_server(void *o, struct span v, const char **x)
{
	return config_set_host(v, 5060, &((struct cfg_account *)o)->server, x);
}

static enum err account_stun(void *o, struct span v, const char **x)
{
	return config_set_host(v, 3478, &((struct cfg_account *)o)->stun, x);
}

static enum err account_user(void *o, struct span v, const char **x)
{
	struct cfg_account *a = o;

	return config_set_text(v, a->user, sizeof(a->user), "a user name", x);
}

static enum err account_password(void *o, struct span v, const char **x)
{
	struct cfg_account *a = o;

	return config_set_text(v, a->password, sizeof(a->password), "a password", x);
}

static enum err account_password_file(void *o, struct span v, const char **x)
{
	struct cfg_account *a = o;

	return config_set_text(v, a->password_file, sizeof(a->password_file), "a file name", x);
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
	return config_set_bool(v, &((struct cfg_account *)o)->insecure_digest, x);
}

static enum err account_ring(void *o, struct span v, const char **x)
{
	return config_set_duration(v, 1, 600, &((struct cfg_account *)o)->ring_s, x);
}

static enum err account_dpd(void *o, struct span v, const char **x)
{
	return config_set_duration(v, 5, 3600, &((struct cfg_account *)o)->dpd_s, x);
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
	return config_set_port(rest, 1, &s->port, &(const char *){ NULL });
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
	if (config_set_name(name, s->name, x) != OK)
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
			if (config_set_name(span_sub(v, 0, n), p->allow[p->n_allow], &(const char *){ NULL }) != OK)
				return ERR_MALFORMED;
			p->n_allow++;
		}
		v = span_from(v, n < v.len ? n + 1 : n);
	}
	return p->n_allow ? OK : ERR_MALFORMED;
}

static enum err peer_ask(void *o, struct span v, const char **x)
{
	return config_set_bool(v, &((struct cfg_peer *)o)->ask, x);
}

static enum err peer_ask_within(void *o, struct span v, const char **x)
{
	return config_set_duration(v, 1, 600, &((struct cfg_peer *)o)->ask_s, x);
}

static enum err peer_for(void *o, struct span v, const char **x)
{
	return config_set_duration(v, 1, 30 * 86400, &((struct cfg_peer *)o)->for_s, x);
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
	return config_set_bool(v, &((struct cfg_peer *)o)->ping, x);
}

static enum err peer_bare(void *o, struct span v, const char **x)
{
	return config_set_bool(v, &((struct cfg_peer *)o)->bare, x);
}

static enum err peer_ice(void *o, struct span v, const char **x)
{
	return config_set_bool(v, &((struct cfg_peer *)o)->ice, x);
}

static enum err peer_sha1(void *o, struct span v, const char **x)
{
	return config_set_bool(v, &((struct cfg_peer *)o)->sha1, x);
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
	if (addr_parse_ip(v, &p->address) != OK || p->address.family != ADDR_IP6 || addr_is_any(&p->address) ||
	    addr_is_multicast(&p->address) || addr_is_loopback(&p->address))
		return ERR_MALFORMED;
	p->has_address = true;
	return OK;
}

static enum err peer_ike(void *o, struct span v, const char **x)
{
	return ike_list_parse(v, false, &((struct cfg_peer *)o)->ike, x);
}

static enum err peer_esp(void *o, struct span v, const char **x)
{
	return ike_list_parse(v, true, &((struct cfg_peer *)o)->esp, x);
}

static enum err peer_psk(void *o, struct span v, const char **x)
{
	return config_set_secret(v, 16, &((struct cfg_peer *)o)->psk, x);
}

static enum err peer_ppk(void *o, struct span v, const char **x)
{
	return config_set_ppk(v, o, x);
}

static enum err peer_ca(void *o, struct span v, const char **x)
{
	return config_set_ca_file(v, o, x);
}

static enum err peer_unbuilt(void *o, struct span v, const char **x)
{
	(void)o;
	(void)v;
	*x = "no accept-prefix (accepted prefixes are not available in this version)";
	return ERR_UNSUPPORTED;
}

static const struct conf_key peer_keys[] = {
	{ "key", false, true, peer_key },    { "allow", false, true, peer_allow },
	{ "ask", false, false, peer_ask },   { "ask-within", false, false, peer_ask_within },
	{ "for", false, false, peer_for },   { "require", false, false, peer_require },
	{ "ping", false, false, peer_ping }, { "bare", false, false, peer_bare },
	{ "cert", false, false, peer_cert }, { "address", false, false, peer_address },
	{ "ice", false, false, peer_ice },   { "sha1", false, false, peer_sha1 },
	{ "ike", false, false, peer_ike },   { "esp", false, false, peer_esp },
	{ "ca", false, false, peer_ca },     { "psk", false, false, peer_psk },
	{ "ppk", false, false, peer_ppk },   { "accept-prefix", false, true, peer_unbuilt },
	{ NULL, false, false, NULL },
};

static enum err peer_begin(void *arg, struct span name, void **ret, const char **x)
{
	struct config *c = arg;
	struct cfg_peer *p, *grown;
	char aor[CFG_AOR_MAX];

	if (config_set_aor(name, aor, x) != OK)
		return ERR_MALFORMED;
	*x = "each peer once";
	if (config_peer(c, aor))
		return ERR_DENIED;
	*x = "at most 1024 peers";
	if (c->n_peers == CFG_PEERS_MAX)
		return ERR_LIMIT;
	grown = calloc(c->n_peers + 1, sizeof(*grown)); /* realloc would leave copies of keys behind */
	if (!grown)
		return ERR_NOMEM;
	if (c->n_peers) {
		memcpy(grown, c->peers, c->n_peers * sizeof(*grown));
		secret_wipe(c->peers, c->n_peers * sizeof(*grown));
	}
	free(c->peers);
	c->peers = grown;
	p = &grown[c->n_peers++];
	*p = (struct cfg_peer){ .require = LEVEL_PINNED, .ping = true, .ice = true, .ask_s = 60 };
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
	*x = "no ask = yes with bare = yes (a stock peer asks for no services, so that nobody could say yes to any)";
	if (p->bare && p->ask)
		return ERR_UNSUPPORTED;
	if (config_check_proofs(p, x) != OK)
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
				return conf_fail(e, file, 0,
						 "[peer %s] allows \"%s\"; expected the name of a [service]",
						 c->peers[i].aor, c->peers[i].allow[k]);
	return OK;
}

/* Two peers at one inner address would be one to the data plane. */
static enum err check_addresses(const char *file, const struct config *c, struct conf_error *e)
{
	for (unsigned i = 0; i < c->n_peers; i++)
		for (unsigned k = 0; c->peers[i].has_address && k < i; k++)
			if (c->peers[k].has_address && addr_ip_eq(&c->peers[i].address, &c->peers[k].address))
				return conf_fail(e, file, 0,
						 "[peer %s] has the address of [peer %s]; expected one of its own",
						 c->peers[i].aor, c->peers[k].aor);
	return OK;
}

enum err config_parse(const char *file, struct span text, struct config **ret, struct conf_error *e)
{
	struct config *c = calloc(1, sizeof(*c));
	enum err r = ERR_NOMEM;

	if (!c)
		return r;
	*c = (struct config){ .user = "tieline",
			      .interface = "tie0",
			      .port = 4500,
			      .max_calls = 16,
			      .dead_after_s = 120,
			      .log_level = LOG_INFO };
	if (span_copy_str(span_str(file), c->file, sizeof(c->file)) != OK)
		c->file[0] = 0; /* then it cannot be read again */
	r = conf_parse(file, text, sections, c, e);
	if (r == OK && !c->n_accounts)
		r = conf_fail(e, file, 0, "no [account]; expected at least one");
	if (r == OK)
		r = check_allowed(file, c, e);
	if (r == OK)
		r = check_addresses(file, c, e);
	if (r == OK)
		r = config_check_secrets(file, c, e);
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
	for (unsigned i = 0; i < c->n_peers; i++)
		config_wipe_peer(&c->peers[i]);
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
