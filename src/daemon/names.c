/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/names.c - what the network around us is: our own addresses, and those of the accounts' servers. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine.h"
#include "net/dns.h"
#include "net/tun.h"

#define RETRY_US SECONDS(10)

/* The pieces of one question that the answer must find again. */
struct question {
	struct engine *e;
	unsigned account;
	bool stun;
};
struct names {
	struct question questions[CFG_ACCOUNTS_MAX][2];
	struct dns *dns;
	struct loop_fd *watch;
	int fd;
};

static void resolve(struct engine *e, unsigned account);

static void retry(void *arg, uint64_t now_us)
{
	struct question *q = arg;

	(void)now_us;
	resolve(q->e, q->account);
}

static void retry_later(struct engine *e, unsigned account)
{
	struct timer *t = &e->names[account].retry;

	t->fire = retry;
	t->arg = &e->lookup->questions[account][0];
	if (timer_arm(loop_timers(e->loop), t, loop_now_us(e->loop) + RETRY_US) != OK)
		log_error(&e->log, "no memory for a timer");
}

/* Both names are known: to vpn, with the address by which we reach the server. */
static void tell(struct engine *e, unsigned account)
{
	const struct cfg_account *a = &vpn_config(e->vpn)->accounts[account];
	struct server_names *n = &e->names[account];
	struct addr local;

	if (n->server.family == ADDR_NONE || n->stun.family == ADDR_NONE)
		return;
	if (udp_source_towards(&n->server, &local) != OK) {
		log_warn(&e->log, "no route to %s", a->server.host);
		retry_later(e, account);
		return;
	}
	for (int i = 0; i < 2; i++)
		if (e->groups[i].family == local.family)
			local.port = e->groups[i].sip_port;
	if (addr_eq(&local, &n->local))
		return;
	n->local = local;
	vpn_set_server(e->vpn, loop_now_us(e->loop), account, &n->server, &n->stun, &local);
}

static void answered(void *arg, const struct addr *addrs, unsigned n, const char *why)
{
	struct question *q = arg;
	const struct cfg_account *a = &vpn_config(q->e->vpn)->accounts[q->account];
	struct server_names *names = &q->e->names[q->account];
	struct addr *to = q->stun ? &names->stun : &names->server, local;
	struct addr found = { .family = ADDR_NONE };

	for (unsigned i = 0; i < n && found.family == ADDR_NONE; i++)
		if (udp_source_towards(&addrs[i], &local) == OK)
			found = addrs[i];
	if (found.family == ADDR_NONE) {
		log_warn(&q->e->log, "%s: %s", q->stun ? a->stun.host : a->server.host, n ? "no route to it" : why);
		retry_later(q->e, q->account);
		return;
	}
	if (!addr_eq(to, &found))
		names->local.family = ADDR_NONE; /* tell again */
	*to = found;
	tell(q->e, q->account);
}

static void resolve(struct engine *e, unsigned account)
{
	const struct cfg_account *a = &vpn_config(e->vpn)->accounts[account];

	if (dns_resolve(e->lookup->dns, a->server.host, a->server.port, answered, &e->lookup->questions[account][0]) !=
		    OK ||
	    dns_resolve(e->lookup->dns, a->stun.host, a->stun.port, answered, &e->lookup->questions[account][1]) !=
		    OK) {
		log_warn(&e->log, "%s cannot be looked up: no name server", a->server.host);
		retry_later(e, account);
	}
}

static void look_at_locals(struct engine *e)
{
	struct addr found[8], locals[8];
	unsigned n_found = 0, n = 0;

	/* with host = yes the TUN is among them: through it no tunnel can go */
	if (local_addresses(vpn_config(e->vpn)->host ? vpn_config(e->vpn)->interface : NULL, found, 8, &n_found) !=
	    OK) {
		log_warn(&e->log, "our own addresses cannot be read");
		return;
	}
	for (unsigned i = 0; i < n_found; i++)
		for (int g = 0; g < 2; g++)
			if (e->groups[g].family == found[i].family) {
				locals[n] = found[i];
				locals[n++].port = e->groups[g].port;
			}
	if (n == e->n_locals && !memcmp(locals, e->locals, n * sizeof(locals[0])))
		return;
	memcpy(e->locals, locals, n * sizeof(locals[0]));
	e->n_locals = n;
	log_info(&e->log, "%u local address%s", n, n == 1 ? "" : "es");
	vpn_set_locals(e->vpn, loop_now_us(e->loop), locals, n);
}

static void addresses_changed(void *arg, int fd, int events)
{
	struct engine *e = arg;

	(void)events;
	address_watch_drain(fd);
	look_at_locals(e);
	for (unsigned i = 0; i < vpn_config(e->vpn)->n_accounts; i++)
		tell(e, i);
}

enum err names_open(struct engine *e)
{
	struct names *n = calloc(1, sizeof(*n));
	enum err r;

	if (!n)
		return ERR_NOMEM;
	n->fd = -1;
	e->lookup = n;
	r = dns_new(e->loop, &n->dns);
	if (r == OK)
		r = address_watch_open(&n->fd);
	if (r == OK)
		r = loop_fd_add(e->loop, n->fd, LOOP_READ, addresses_changed, e, &n->watch);
	if (r != OK)
		return r;
	look_at_locals(e);
	for (unsigned i = 0; i < vpn_config(e->vpn)->n_accounts; i++) {
		n->questions[i][0] = (struct question){ .e = e, .account = i };
		n->questions[i][1] = (struct question){ .e = e, .account = i, .stun = true };
		resolve(e, i);
	}
	return OK;
}

void names_close(struct engine *e)
{
	struct names *n = e->lookup;

	if (!n)
		return;
	for (unsigned i = 0; i < CFG_ACCOUNTS_MAX; i++)
		timer_disarm(loop_timers(e->loop), &e->names[i].retry);
	loop_fd_free(n->watch);
	if (n->fd >= 0)
		close(n->fd);
	dns_free(n->dns);
	free(n);
	e->lookup = NULL;
}
