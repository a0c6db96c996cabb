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
	return config_set_bool(v, &((struct config *)o)->host, x);
}

static enum err daemon_dataplane(void *o, struct span v, const char **x)
{
	static const char *const names[] = { "auto", "user", "kernel" };

	*x = "auto, user or kernel";
	for (int i = 0; i < 3; i++)
		if (span_eq_str(v, names[i])) {
			((struct config *)o)->dataplane = (enum cfg_dataplane)i;
			return OK;
		}
	return ERR_MALFORMED;
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

static enum err daemon_workers(void *o, struct span v, const char **x)
{
	uint32_t n;

	*x = "a number from 1 to 8";
	if (span_u32(v, CFG_WORKERS_MAX, &n) != OK || !n)
		return ERR_MALFORMED;
	((struct config *)o)->workers = n;
	return OK;
}

static enum err daemon_rekey_after(void *o, struct span v, const char **x)
{
	return config_set_duration(v, 5, 86400, &((struct config *)o)->rekey_after_s, x);
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

static enum err daemon_export_keys(void *o, struct span v, const char **x)
{
	return config_set_bool(v, &((struct config *)o)->export_keys, x);
}

static const struct conf_key daemon_keys[] = {
	{ "user", false, false, daemon_user },
	{ "port", false, false, daemon_port },
	{ "interface", false, false, daemon_interface },
	{ "host", false, false, daemon_host },
	{ "dataplane", false, false, daemon_dataplane },
	{ "max-calls", false, false, daemon_max_calls },
	{ "workers", false, false, daemon_workers },
	{ "dead-after", false, false, daemon_dead_after },
	{ "rekey-after", false, false, daemon_rekey_after },
	{ "log-level", false, false, daemon_log_level },
	{ "export-keys", false, false, daemon_export_keys },
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

static const struct conf_key no_keys[] = { { NULL, false, false, NULL } };

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
	{ "network", CONF_NAMED, true, config_network_keys, config_network_begin, config_network_end },
	{ "peer", CONF_NAMED, true, config_peer_keys, config_peer_begin, config_peer_end },
	{ "call", CONF_NAMED, true, no_keys, call_begin, NULL },
	{ NULL, CONF_UNNAMED, false, NULL, NULL, NULL },
};

/* A name in `allow` that no section defines is a typing error that would silently grant nothing. */
static enum err check_allowed(const char *file, const struct config *c, struct conf_error *e)
{
	for (unsigned i = 0; i < c->n_peers; i++)
		for (unsigned k = 0; k < c->peers[i].n_allow; k++)
			if (!config_service(c, c->peers[i].allow[k]) && !config_network(c, c->peers[i].allow[k]))
				return conf_fail(
					e, file, 0,
					"[peer %s] allows \"%s\"; expected the name of a [service] or [network]",
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
			      .rekey_after_s = 3600,
			      .workers = 1,
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
	if (r == OK)
		r = config_check_networks(file, c, e);
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

bool config_plain_esp(const struct config *c)
{
	for (unsigned i = 0; i < c->n_peers; i++)
		if (c->peers[i].plain_esp)
			return true;
	return false;
}

bool config_wants_kernel(const struct config *c)
{
	bool any = c->n_networks || c->dataplane == CFG_DATAPLANE_KERNEL;

	for (unsigned i = 0; i < c->n_peers; i++)
		any |= c->peers[i].accept.n != 0;
	return any && c->host && c->dataplane != CFG_DATAPLANE_USER;
}
