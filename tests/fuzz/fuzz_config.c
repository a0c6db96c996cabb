/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A configuration file of either daemon.
 * covers: src/vpn/config.c src/vpn/config_peer.c src/vpn/config_network.c src/vpn/config_value.c src/ike/suite.c src/exchange/config.c */
#include <stdlib.h>
#include <string.h>

#include "exchange/exchange.h"
#include "vpn/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void refused(enum err r, const struct conf_error *e)
{
	if (r != ERR_NOMEM && (!e->text[0] || strncmp(e->text, "f:", 2) != 0))
		abort(); /* no sentence, or not where */
}

static void tielined(struct span text)
{
	struct conf_error e = { .line = 0 };
	struct config *c;
	enum err r = config_parse("f", text, &c, &e);

	if (r != OK) {
		refused(r, &e);
		return;
	}
	for (unsigned i = 0; i < c->n_services; i++)
		if (config_service(c, c->services[i].name) != &c->services[i] || !c->services[i].port)
			abort(); /* two of one name, or one that nothing reaches */
	for (unsigned i = 0; i < c->n_networks; i++) {
		const struct cfg_network *n = &c->networks[i];

		if (!c->host || config_network(c, n->name) != n || !n->prefix.n || n->pool.n > 2)
			abort();
	}
	for (unsigned i = 0; i < c->n_peers; i++) {
		const struct cfg_peer *p = &c->peers[i];

		if (config_peer(c, p->aor) != p || p->n_keys > CFG_KEYS_MAX || p->n_allow > CFG_ALLOW_MAX)
			abort();
		for (unsigned k = 0; k < p->n_allow; k++)
			if (!config_service(c, p->allow[k]) == !config_network(c, p->allow[k]))
				abort(); /* a grant of something that is not there, or of two things */
		for (unsigned k = 0; k < p->accept.n; k++)
			if (!config_prefix_sane(&p->accept.p[k]))
				abort();
	}
	if (config_service(c, "") || config_peer(c, ""))
		abort();
	config_free(c);
}

static void exchange(struct span text)
{
	struct conf_error e = { .line = 0 };
	struct exchange_config *c;
	enum err r = exchange_config_parse("f", text, &c, &e);

	if (r != OK) {
		refused(r, &e);
		return;
	}
	for (unsigned i = 0; i < c->n_users; i++)
		if (!exchange_user_name_ok(span_str(c->users[i].name)) || strlen(c->users[i].ha1) != 64 ||
		    (i && strcmp(c->users[i - 1].name, c->users[i].name) >= 0))
			abort();
	exchange_config_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tielined(span_of(data, size));
	exchange(span_of(data, size));
	return 0;
}
