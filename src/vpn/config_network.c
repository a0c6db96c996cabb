/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/config_network.c - the [network NAME] section, and prefixes wherever they stand. */
#include <string.h>

#include "base/text.h"
#include "vpn/config_impl.h"

/* A network is not the whole of the Internet, and not one that the kernel gives a meaning of its own. A wider prefix of IPv6
 * could also hold somebody's inner address, which is a hash in fd00::/8. */
#define IP4_SHORTEST 8
#define IP6_SHORTEST 32

bool config_prefix_sane(const struct addr_prefix *p)
{
	static const struct addr_prefix loopback = { .base = { .family = ADDR_IP4, .ip = { 127 } }, .len = 8 },
					link = { .base = { .family = ADDR_IP4, .ip = { 169, 254 } }, .len = 16 };

	if (p->len < (p->base.family == ADDR_IP4 ? IP4_SHORTEST : IP6_SHORTEST) || addr_is_any(&p->base) ||
	    addr_is_multicast(&p->base) || addr_is_loopback(&p->base) || addr_is_link_local(&p->base))
		return false;
	return !addr_prefix_meets(p, &loopback) && !addr_prefix_meets(p, &link);
}

struct span config_word(struct span *v)
{
	struct span word;
	size_t n = 0;

	while (n < v->len && (v->p[n] == ',' || v->p[n] == ' ' || v->p[n] == '\t'))
		n++;
	*v = span_from(*v, n);
	for (n = 0; n < v->len && v->p[n] != ',' && v->p[n] != ' ' && v->p[n] != '\t';)
		n++;
	word = span_sub(*v, 0, n);
	*v = span_from(*v, n);
	return word;
}

enum err config_set_prefixes(struct span v, struct cfg_prefixes *ret, const char **x)
{
	struct cfg_prefixes l = *ret;

	*x = "at most 4 prefixes such as 192.168.1.0/24 or 2001:db8:1::/64, without host bits, of /8 (IPv6: /32) or "
	     "longer";
	for (struct span w = config_word(&v); w.len; w = config_word(&v)) {
		if (l.n == CFG_PREFIXES_MAX)
			return ERR_LIMIT;
		if (addr_prefix_parse(w, &l.p[l.n]) != OK || !config_prefix_sane(&l.p[l.n]))
			return ERR_MALFORMED;
		l.n++;
	}
	if (l.n == ret->n)
		return ERR_MALFORMED;
	*ret = l;
	return OK;
}

bool config_prefixes_have(const struct cfg_prefixes *l, const struct addr_prefix *p)
{
	for (unsigned i = 0; i < l->n; i++)
		if (addr_prefix_inside(p, &l->p[i]))
			return true;
	return false;
}

/* ---- [network NAME] ---- */

static enum err network_prefix(void *o, struct span v, const char **x)
{
	return config_set_prefixes(v, &((struct cfg_network *)o)->prefix, x);
}

static enum err network_pool(void *o, struct span v, const char **x)
{
	return config_set_prefixes(v, &((struct cfg_network *)o)->pool, x);
}

static enum err network_dns(void *o, struct span v, const char **x)
{
	struct cfg_network *n = o;

	*x = "at most 4 addresses of name servers";
	for (struct span w = config_word(&v); w.len; w = config_word(&v)) {
		struct addr *a = &n->dns[n->n_dns];

		if (n->n_dns == CFG_DNS_MAX)
			return ERR_LIMIT;
		if (addr_parse_ip(w, a) != OK || addr_is_any(a) || addr_is_multicast(a) || addr_is_loopback(a) ||
		    addr_is_link_local(a))
			return ERR_MALFORMED;
		n->n_dns++;
	}
	return n->n_dns ? OK : ERR_MALFORMED;
}

const struct conf_key config_network_keys[] = {
	{ "prefix", true, true, network_prefix },
	{ "pool", false, true, network_pool },
	{ "dns", false, true, network_dns },
	{ NULL, false, false, NULL },
};

enum err config_network_begin(void *arg, struct span name, void **ret, const char **x)
{
	struct config *c = arg;
	struct cfg_network *n;

	*x = "at most 16 networks";
	if (c->n_networks == CFG_NETWORKS_MAX)
		return ERR_LIMIT;
	n = &c->networks[c->n_networks];
	*n = (struct cfg_network){ .n_dns = 0 };
	if (config_set_name(name, n->name, x) != OK)
		return ERR_MALFORMED;
	c->n_networks++;
	*ret = n;
	return OK;
}

const struct addr_prefix *config_pool(const struct cfg_network *n, enum addr_family family)
{
	for (unsigned i = 0; i < n->pool.n; i++)
		if (n->pool.p[i].base.family == family)
			return &n->pool.p[i];
	return NULL;
}

static bool has_family(const struct cfg_prefixes *l, enum addr_family family)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->p[i].base.family == family)
			return true;
	return false;
}

enum err config_network_end(void *arg, void *o, const char **x)
{
	const struct cfg_network *n = o;

	(void)arg;
	*x = "one pool of each address family";
	if (n->pool.n > 2 || (n->pool.n == 2 && n->pool.p[0].base.family == n->pool.p[1].base.family))
		return ERR_MALFORMED;
	/* without one, a peer comes from its inner address, which is IPv6 */
	*x = "an IPv4 pool with an IPv4 prefix, and no pool of a family that has no prefix";
	if (has_family(&n->prefix, ADDR_IP4) && !config_pool(n, ADDR_IP4))
		return ERR_MALFORMED;
	for (unsigned i = 0; i < n->pool.n; i++)
		if (!has_family(&n->prefix, n->pool.p[i].base.family))
			return ERR_MALFORMED;
	*x = "dns outside of the pool";
	for (unsigned i = 0; i < n->n_dns; i++)
		for (unsigned k = 0; k < n->pool.n; k++)
			if (addr_prefix_has(&n->pool.p[k], &n->dns[i]))
				return ERR_MALFORMED;
	return OK;
}

const struct cfg_network *config_network(const struct config *c, const char *name)
{
	for (unsigned i = 0; i < c->n_networks; i++)
		if (!strcmp(c->networks[i].name, name))
			return &c->networks[i];
	return NULL;
}

/* ---- across sections ---- */

static bool pools_meet(const struct cfg_network *a, const struct cfg_network *b)
{
	for (unsigned i = 0; i < a->pool.n; i++)
		for (unsigned k = 0; k < b->pool.n; k++)
			if (addr_prefix_meets(&a->pool.p[i], &b->pool.p[k]))
				return true;
	return false;
}

/* A stock peer learns its address in the exchange that makes its Child SA, and not when somebody says yes later. */
static bool asks_in_vain(const struct config *c, const struct cfg_peer *p)
{
	for (unsigned i = 0; p->ask && p->bare && i < p->n_allow; i++)
		if (config_network(c, p->allow[i]))
			return true;
	return false;
}

enum err config_check_networks(const char *file, const struct config *c, struct conf_error *e)
{
	if (c->dataplane == CFG_DATAPLANE_KERNEL && !c->host)
		return conf_fail(e, file, 0, "dataplane = kernel; expected host = yes in [daemon] with it");
	if (c->n_networks && !c->host)
		return conf_fail(e, file, 0, "[network %s]; expected host = yes in [daemon] with it",
				 c->networks[0].name);
	for (unsigned i = 0; i < c->n_networks; i++) {
		if (config_service(c, c->networks[i].name))
			return conf_fail(e, file, 0,
					 "[network %s] has the name of a [service]; expected one of its own",
					 c->networks[i].name);
		for (unsigned k = 0; k < i; k++)
			if (pools_meet(&c->networks[i], &c->networks[k]))
				return conf_fail(e, file, 0,
						 "[network %s] has addresses of the pool of [network %s]; expected a "
						 "pool of its own",
						 c->networks[i].name, c->networks[k].name);
	}
	for (unsigned i = 0; i < c->n_peers; i++)
		if (asks_in_vain(c, &c->peers[i]))
			return conf_fail(e, file, 0,
					 "[peer %s] has bare = yes, ask = yes and a network; expected not all three",
					 c->peers[i].aor);
	return OK;
}
