/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/nat.c - NAT detection (RFC 7296, 2.23). */
#include "ike/sa_impl.h"

#define NAT_HASH 20 /* SHA-1 */

static enum err nat_hash(uint64_t spi_i, uint64_t spi_r, const struct addr *a, uint8_t ret[HASH_MAX])
{
	uint8_t spis[16], port[2];
	struct span parts[] = { SPAN_OF(spis), addr_ip(a), SPAN_OF(port) };

	put_be64(spis, spi_i);
	put_be64(spis + 8, spi_r);
	put_be16(port, a->port);
	return hash_parts(HASH_SHA1, parts, 3, ret);
}

enum err ike_build_nat_detection(const struct ike_sa *sa, struct ike_build *b, uint64_t spi_r, const struct path *path)
{
	uint8_t hash[HASH_MAX];
	enum err e = OK;

	if (sa->cfg.plain_esp)
		e = nat_hash(sa->spi_i, spi_r, &path->local, hash);
	else
		rng_fill(sa->cfg.rng, hash, NAT_HASH);
	if (e != OK)
		return e;
	ike_build_notify(b, IKE_N_NAT_DETECTION_SOURCE_IP, span_of(hash, NAT_HASH));
	e = nat_hash(sa->spi_i, spi_r, &path->remote, hash);
	if (e == OK)
		ike_build_notify(b, IKE_N_NAT_DETECTION_DESTINATION_IP, span_of(hash, NAT_HASH));
	return e;
}

/* Is this address in one of the peer's notifies of that type? A peer that sends none does not look for NATs. */
static bool nat_hash_found(const struct ike_in *in, uint16_t type, const struct addr *a)
{
	uint8_t hash[HASH_MAX];
	bool any = false, found = false;
	struct ike_notify n;

	if (nat_hash(in->h.spi_i, in->h.spi_r, a, hash) != OK)
		return false;
	for (unsigned i = 0; i < in->chain.n; i++) {
		if (in->chain.p[i].type != IKE_P_NOTIFY || ike_notify_parse(in->chain.p[i].body, &n) != OK ||
		    n.type != type)
			continue;
		any = true;
		found |= span_eq(n.data, span_of(hash, NAT_HASH));
	}
	return found || !any;
}

bool ike_nat_ok(const struct ike_sa *sa, const struct ike_in *in)
{
	return !sa->cfg.plain_esp || (nat_hash_found(in, IKE_N_NAT_DETECTION_SOURCE_IP, &in->path->remote) &&
				      nat_hash_found(in, IKE_N_NAT_DETECTION_DESTINATION_IP, &in->path->local));
}
