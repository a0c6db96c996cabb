/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/nat.c - NATs by mapping and filtering (RFC 4787, 4 and 5; docs/architecture.md):
 *
 *   cone        endpoint-independent mapping, endpoint-independent filtering
 *   address     endpoint-independent mapping, address-dependent filtering
 *   port        endpoint-independent mapping, address-and-port-dependent filtering
 *   symmetric   address-and-port-dependent mapping and filtering
 *
 * A mapping is refreshed by what goes out (RFC 4787, 6). None answers hairpinned datagrams. */
#include <string.h>

#include "sim.h"

static const char *const names[NAT_KINDS] = { "none", "cone", "address", "port", "symmetric" };

const char *nat_kind_name(enum nat_kind k)
{
	return names[k];
}

bool nat_kind_parse(const char *name, enum nat_kind *ret)
{
	for (enum nat_kind k = NAT_NONE; k < NAT_KINDS; k++)
		if (!strcmp(name, names[k])) {
			*ret = k;
			return true;
		}
	return false;
}

bool nat_pair_works(enum nat_kind a, enum nat_kind b)
{
	return !(a == NAT_SYMMETRIC && b >= NAT_PORT) && !(b == NAT_SYMMETRIC && a >= NAT_PORT);
}

void nat_init(struct nat *n, const struct rng *rng, enum nat_kind kind, const struct addr *outside)
{
	*n = (struct nat){ .kind = kind, .outside = *outside };
	n->preserves_port = rng_below(rng, 2);
	n->timeout_us = SECONDS(30 + rng_below(rng, 270));
	n->next_port = (uint16_t)(20000 + rng_below(rng, 20000));
}

static bool port_taken(const struct nat *n, uint16_t port)
{
	for (unsigned i = 0; i < n->n; i++)
		if (n->m[i].port == port)
			return true;
	return false;
}

/* A mapping of its own port; one that preserves takes the next ones when it cannot. */
static uint16_t port_for(struct nat *n, const struct rng *rng, uint16_t inside)
{
	uint16_t port = n->preserves_port ? inside : (uint16_t)(1024 + rng_below(rng, 60000));

	while (port_taken(n, port))
		port = n->preserves_port ? n->next_port++ : (uint16_t)(1024 + rng_below(rng, 60000));
	return port;
}

static void expire(struct nat *n, uint64_t now_us)
{
	for (unsigned i = n->n; i-- > 0;)
		if (n->m[i].until_us <= now_us)
			n->m[i] = n->m[--n->n];
}

static struct nat_mapping *mapping_of(struct nat *n, const struct addr *inside, const struct addr *remote)
{
	for (unsigned i = 0; i < n->n; i++)
		if (addr_eq(&n->m[i].inside, inside) &&
		    (n->kind != NAT_SYMMETRIC || n->firewall || addr_eq(&n->m[i].remote, remote)))
			return &n->m[i];
	return NULL;
}

static void permit(struct nat_mapping *m, const struct addr *remote, uint64_t until_us)
{
	unsigned at = 0;

	for (unsigned i = 0; i < m->n_permits; i++) {
		if (addr_eq(&m->permits[i].remote, remote)) {
			m->permits[i].until_us = until_us;
			return;
		}
		if (m->permits[i].until_us < m->permits[at].until_us)
			at = i;
	}
	if (m->n_permits < NAT_PERMITS_MAX)
		at = m->n_permits++;
	m->permits[at] = (struct nat_permit){ .remote = *remote, .until_us = until_us };
}

bool nat_out(struct nat *n, const struct rng *rng, uint64_t now_us, struct addr *src, const struct addr *dst)
{
	struct nat_mapping *m;

	expire(n, now_us);
	m = mapping_of(n, src, dst);
	if (!m) {
		if (n->n == NAT_MAPPINGS_MAX)
			return false;
		m = &n->m[n->n];
		*m = (struct nat_mapping){ .inside = *src, .remote = *dst };
		m->port = n->firewall ? src->port : port_for(n, rng, src->port);
		n->n++;
	}
	m->until_us = now_us + n->timeout_us;
	permit(m, dst, m->until_us);
	if (!n->firewall) {
		*src = n->outside;
		src->port = m->port;
	}
	return true;
}

static bool permitted(const struct nat *n, const struct nat_mapping *m, uint64_t now_us, const struct addr *src)
{
	if (n->kind == NAT_CONE)
		return true;
	for (unsigned i = 0; i < m->n_permits; i++) {
		const struct nat_permit *p = &m->permits[i];

		if (p->until_us > now_us &&
		    (n->kind == NAT_ADDRESS ? addr_ip_eq(&p->remote, src) : addr_eq(&p->remote, src)))
			return true;
	}
	return false;
}

bool nat_in(struct nat *n, uint64_t now_us, const struct addr *src, struct addr *dst)
{
	expire(n, now_us);
	for (unsigned i = 0; i < n->n; i++) {
		const struct nat_mapping *m = &n->m[i];

		if (n->firewall ? !addr_eq(&m->inside, dst) : m->port != dst->port)
			continue;
		if (!permitted(n, m, now_us, src))
			return false;
		*dst = m->inside;
		return true;
	}
	return false;
}
