/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/config_peer.c - the [peer AOR] section. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "vpn/config_impl.h"

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

	*x = "names of services and networks, separated by commas or blanks, at most 16";
	for (struct span w = config_word(&v); w.len; w = config_word(&v)) {
		if (p->n_allow == CFG_ALLOW_MAX)
			return ERR_LIMIT;
		if (config_set_name(w, p->allow[p->n_allow], &(const char *){ NULL }) != OK)
			return ERR_MALFORMED;
		p->n_allow++;
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

static enum err peer_dscp(void *o, struct span v, const char **x)
{
	struct cfg_peer *p = o;

	*x = "copy or none";
	if (!span_eq_str(v, "copy") && !span_eq_str(v, "none"))
		return ERR_MALFORMED;
	p->copy_dscp = span_eq_str(v, "copy");
	return OK;
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

static enum err peer_udp_encap(void *o, struct span v, const char **x)
{
	struct cfg_peer *p = o;
	bool encap = true;
	enum err e = config_set_bool(v, &encap, x);

	p->plain_esp = !encap;
	return e;
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

static enum err peer_accept_prefix(void *o, struct span v, const char **x)
{
	return config_set_prefixes(v, &((struct cfg_peer *)o)->accept, x);
}

const struct conf_key config_peer_keys[] = {
	{ "key", false, true, peer_key },
	{ "allow", false, true, peer_allow },
	{ "ask", false, false, peer_ask },
	{ "ask-within", false, false, peer_ask_within },
	{ "for", false, false, peer_for },
	{ "require", false, false, peer_require },
	{ "ping", false, false, peer_ping },
	{ "bare", false, false, peer_bare },
	{ "cert", false, false, peer_cert },
	{ "address", false, false, peer_address },
	{ "ice", false, false, peer_ice },
	{ "sha1", false, false, peer_sha1 },
	{ "ike", false, false, peer_ike },
	{ "esp", false, false, peer_esp },
	{ "ca", false, false, peer_ca },
	{ "psk", false, false, peer_psk },
	{ "dscp", false, false, peer_dscp },
	{ "ppk", false, false, peer_ppk },
	{ "udp-encap", false, false, peer_udp_encap },
	{ "accept-prefix", false, true, peer_accept_prefix },
	{ NULL, false, false, NULL },
};

enum err config_peer_begin(void *arg, struct span name, void **ret, const char **x)
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

enum err config_peer_end(void *arg, void *o, const char **x)
{
	struct cfg_peer *p = o;

	(void)arg;
	*x = "bare = yes with cert, address, ice = no, udp-encap = no or sha1 = yes";
	if (!p->bare && (p->has_cert || p->has_address || !p->ice || p->plain_esp || p->sha1))
		return ERR_MALFORMED;
	*x = "ice = no with udp-encap = no (what ICE finds is a path for UDP)";
	if (p->ice && p->plain_esp)
		return ERR_MALFORMED;
	if (config_check_proofs(p, x) != OK)
		return ERR_MALFORMED;
	*x = "address with cert (the inner address of a key that is not known beforehand)";
	if (p->bare && !p->has_address)
		return ERR_MALFORMED;
	return OK;
}
