/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/reload.c - the configuration is read again: all of it, or nothing of it. The file may be root's alone, so the
 * monitor opens it; what the engine makes of it is judged here, and the monitor takes the same file over last. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "daemon/engine.h"
#include "daemon/monitor.h"

static enum err ask(struct engine *e, bool take_over, int *ret_fd)
{
	struct monitor_request rq;
	struct monitor_reply reply;

	memset(&rq, 0, sizeof(rq));
	rq.op = MONITOR_RELOAD;
	rq.add = take_over;
	return monitor_ask(e->monitor_fd, &rq, &reply, ret_fd);
}

static enum err read_file(struct engine *e, const char *name, struct config **ret, struct conf_error *why)
{
	char *text;
	size_t len;
	int fd;
	enum err r = ask(e, false, &fd);

	if (r != OK || fd < 0)
		return r == OK ? ERR_SYSTEM : r;
	r = state_read_fd(fd, &text, &len);
	close(fd);
	if (r != OK)
		return r;
	r = config_parse(name, span_of(text, len), ret, why);
	secret_wipe(text, len);
	free(text);
	return r;
}

/* Sockets of services are open already, for the services that the daemon was started with. */
static bool same_services(const struct config *a, const struct config *b)
{
	bool same = a->n_services == b->n_services;

	for (unsigned i = 0; same && i < a->n_services; i++) {
		const struct cfg_service *x = &a->services[i], *y = &b->services[i];

		same = !strcmp(x->name, y->name) && x->protocol == y->protocol && x->port == y->port &&
		       x->has_target == y->has_target && (!x->has_target || addr_eq(&x->target, &y->target));
	}
	return same;
}

static bool same_host(const struct cfg_host *x, const struct cfg_host *y)
{
	return !strcmp(x->host, y->host) && x->port == y->port && x->transport == y->transport;
}

/* A registration is made with what an account says at the start. */
static bool same_accounts(const struct config *a, const struct config *b)
{
	bool same = a->n_accounts == b->n_accounts;

	for (unsigned i = 0; same && i < a->n_accounts; i++) {
		const struct cfg_account *x = &a->accounts[i], *y = &b->accounts[i];

		same = !strcmp(x->aor, y->aor) && same_host(&x->server, &y->server) && same_host(&x->stun, &y->stun) &&
		       !strcmp(x->user, y->user) && !strcmp(x->password_file, y->password_file) &&
		       (x->password_file[0] || !strcmp(x->password, y->password)) &&
		       x->insecure_digest == y->insecure_digest && x->ring_s == y->ring_s && x->dpd_s == y->dpd_s;
	}
	return same;
}

/* What is bound to sockets, the namespace and registrations stays as it is until a restart, and so does all the rest: what
 * is accepted here has its effect at once. */
static bool same_prefixes(const struct cfg_prefixes *x, const struct cfg_prefixes *y)
{
	bool same = x->n == y->n;

	for (unsigned i = 0; same && i < x->n; i++)
		same = addr_prefix_eq(&x->p[i], &y->p[i]);
	return same;
}

static bool same_networks(const struct config *a, const struct config *b)
{
	bool same = a->n_networks == b->n_networks;

	for (unsigned i = 0; same && i < a->n_networks; i++) {
		const struct cfg_network *x = &a->networks[i], *y = &b->networks[i];

		same = !strcmp(x->name, y->name) && same_prefixes(&x->prefix, &y->prefix) &&
		       same_prefixes(&x->pool, &y->pool) && x->n_dns == y->n_dns;
		for (unsigned k = 0; same && k < x->n_dns; k++)
			same = addr_ip_eq(&x->dns[k], &y->dns[k]);
	}
	return same;
}

static bool only_peers_differ(const struct config *a, const struct config *b)
{
	return same_accounts(a, b) && a->port == b->port && a->max_calls == b->max_calls &&
	       a->dead_after_s == b->dead_after_s && a->rekey_after_s == b->rekey_after_s && a->workers == b->workers &&
	       a->export_keys == b->export_keys && a->log_level == b->log_level && !strcmp(a->user, b->user) &&
	       !strcmp(a->interface, b->interface) && a->host == b->host && same_services(a, b) && same_networks(a, b);
}

/* Password files are root's: what was read from them at the start still holds. */
static void keep_passwords(const struct config *from, struct config *to)
{
	for (unsigned i = 0; i < to->n_accounts; i++)
		if (to->accounts[i].password_file[0])
			memcpy(to->accounts[i].password, from->accounts[i].password, sizeof(to->accounts[i].password));
}

/* So are the files of CAs; another one, or one of a new peer, is out of reach now. */
static bool keep_cas(const struct config *from, struct config *to, struct conf_error *why)
{
	for (unsigned i = 0; i < to->n_peers; i++) {
		struct cfg_peer *p = &to->peers[i];
		const struct cfg_peer *old = NULL;

		for (unsigned k = 0; p->ca_file[0] && !old && k < from->n_peers; k++)
			if (!strcmp(from->peers[k].ca_file, p->ca_file))
				old = &from->peers[k];
		if (!p->ca_file[0])
			continue;
		if (!old) {
			(void)snprintf(
				why->text, sizeof(why->text),
				"%.150s has not been read before, and a file of a CA is read at the start only; that "
				"takes a restart",
				p->ca_file);
			return false;
		}
		p->ca = cert_anchor_ref(old->ca);
	}
	return true;
}

static enum err trust_again(struct engine *e, const struct config *cfg, struct trust **ret, struct conf_error *why)
{
	struct trust *t = NULL;
	char *text;
	size_t len;
	enum err r = trust_write(vpn_trust(e->vpn), &text, &len);

	if (r != OK)
		return r;
	r = trust_new(&t);
	if (r == OK)
		r = trust_load(t, "pins", span_of(text, len), cfg, why);
	free(text);
	if (r != OK)
		trust_free(t);
	else
		*ret = t;
	return r;
}

enum err engine_reload(struct engine *e, char *ret_why, size_t cap)
{
	static const char restart[] = "something other than [peer] sections has changed; that takes a restart";
	const struct config *old = vpn_config(e->vpn);
	struct conf_error why = { .line = 0 };
	struct config *cfg = NULL;
	struct trust *trust = NULL;
	enum err r = read_file(e, old->file, &cfg, &why);
	int fd;

	if (r == OK && !only_peers_differ(old, cfg))
		r = ERR_DENIED;
	if (r == OK) {
		keep_passwords(old, cfg);
		if (!keep_cas(old, cfg, &why))
			r = ERR_DENIED;
	}
	if (r == OK) {
		r = trust_again(e, cfg, &trust, &why);
	}
	if (r == OK)
		r = vpn_reload(e->vpn, loop_now_us(e->loop), cfg, trust);
	if (r == ERR_NOTFOUND)
		(void)snprintf(why.text, sizeof(why.text), "%.200s cannot be opened", old->file);
	if (r != OK) {
		config_free(cfg);
		trust_free(trust);
		(void)snprintf(ret_why, cap, "nothing is changed: %s",
			       why.text[0]       ? why.text
			       : r == ERR_DENIED ? restart
						 : err_name(r));
		log_warn(&e->log, "reload: %s", ret_why);
		return r;
	}
	/* it only widens or narrows which stock peers' addresses may be routed; ours is the judgement that counts */
	if (ask(e, true, &fd) != OK)
		log_error(&e->log, "reload: the monitor could not take the configuration over; restart the daemon");
	else if (fd >= 0)
		close(fd);
	pump_open_raw(e);
	log_info(&e->log, "the configuration is read again");
	return OK;
}
