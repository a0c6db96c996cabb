/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/config.h - tielined.conf as values (docs/configuration.md). Parses text, opens
 * nothing: the daemon reads files, the simulator writes strings. Immutable once loaded. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/path.h"
#include "crypto/cert.h"
#include "crypto/chain.h"
#include "crypto/hash.h"
#include "ike/suite.h"

#define CFG_AOR_MAX 256
#define CFG_NAME_MAX 63 /* of a service or network */
#define CFG_KEYS_MAX 8 /* of a peer */
#define CFG_ALLOW_MAX 16
#define CFG_ACCOUNTS_MAX 8
#define CFG_SERVICES_MAX 64
#define CFG_PEERS_MAX 1024
#define CFG_NETWORKS_MAX 16
#define CFG_PREFIXES_MAX 4 /* of a network, of accept-prefix */
#define CFG_DNS_MAX 4
#define CFG_CALLS_MAX 16
#define CFG_WORKERS_MAX 8

enum trust_level { LEVEL_NONE, LEVEL_TOFU, LEVEL_IDENTITY, LEVEL_SAS, LEVEL_PINNED, LEVEL_COUNT };
const char *trust_level_name(enum trust_level l);

struct cfg_host { /* "host[:port][;transport=tcp|udp]" */
	char host[256]; /* name or address text */
	uint16_t port;
	enum transport transport;
};

struct cfg_account {
	char aor[CFG_AOR_MAX]; /* AOR text, normal form */
	struct cfg_host server, stun; /* stun.host "" : the server's host, port 3478 */
	char user[128]; /* default: the user part of the AOR */
	char password[256], password_file[256];
	bool relay_only, separate_key, insecure_digest;
	uint32_t ring_s, dpd_s;
};

struct cfg_service {
	char name[CFG_NAME_MAX + 1];
	uint8_t protocol; /* 6 or 17 */
	uint16_t port;
	bool has_target;
	struct addr target; /* absent: this machine, same port */
	char accept[512]; /* command that agrees to each call, "" none */
};

struct cfg_prefixes {
	struct addr_prefix p[CFG_PREFIXES_MAX];
	unsigned n;
};

struct cfg_network { /* what a peer may join as a whole */
	char name[CFG_NAME_MAX + 1];
	struct cfg_prefixes prefix;
	struct cfg_prefixes pool; /* addresses for who joins: at most one prefix of each family */
	struct addr dns[CFG_DNS_MAX];
	unsigned n_dns;
};

#define CFG_SECRET_MAX 64
struct cfg_secret { /* generated, never typed by a person */
	uint8_t bytes[CFG_SECRET_MAX];
	size_t len; /* 0: none */
};

struct cfg_peer {
	char aor[CFG_AOR_MAX];
	uint8_t keys[CFG_KEYS_MAX][SPKI_HASH];
	unsigned n_keys;
	char allow[CFG_ALLOW_MAX][CFG_NAME_MAX + 1];
	unsigned n_allow;
	uint32_t for_s; /* `for`: a grant's length, 0 unlimited */
	enum trust_level require;
	bool copy_dscp; /* of inner packets to the outer ones */
	bool ping, bare, ice, sha1;
	bool plain_esp; /* udp-encap = no: its `ike-esp` is taken, ESP without UDP */
	bool ask; /* what `allow` lists takes a person's yes, each call anew */
	uint32_t ask_s; /* and how long he has for it */
	bool has_cert;
	uint8_t cert[32]; /* SHA-256 of the DER certificate */
	struct cfg_secret psk;
	struct cfg_secret ppk;
	char ppk_id[64 + 1];
	char ca_file[256]; /* "" none; config_set_ca() brings what is in it */
	struct cert_anchor *ca; /* owned */
	bool has_address;
	struct addr address; /* inner address of a stock peer */
	struct ike_list ike, esp; /* n 0: the default list */
	struct cfg_prefixes accept; /* what may be assigned to us, and reached by a network of this peer's */
};

struct cfg_call { /* [call NAME]: kept up unattended */
	char name[CFG_NAME_MAX + 1];
	char to[CFG_AOR_MAX], service[CFG_NAME_MAX + 1];
	uint16_t forward; /* local port, 0 any */
};

/* Packets of networks pass in the kernel if it can (AUTO), or never (USER); with KERNEL the daemon does not start where it cannot. */
enum cfg_dataplane { CFG_DATAPLANE_AUTO, CFG_DATAPLANE_USER, CFG_DATAPLANE_KERNEL };

struct config {
	char file[256]; /* the text's name, as given to config_parse() */
	char user[64], interface[16];
	uint16_t port;
	uint32_t max_calls, dead_after_s, rekey_after_s;
	uint32_t workers; /* threads of the data plane */
	bool host; /* the TUN is in the host's own namespace */
	enum cfg_dataplane dataplane;
	bool export_keys; /* of its own calls, to who made them and asked for it */
	enum log_level log_level;
	struct cfg_account accounts[CFG_ACCOUNTS_MAX];
	unsigned n_accounts;
	struct cfg_service services[CFG_SERVICES_MAX];
	unsigned n_services;
	struct cfg_network networks[CFG_NETWORKS_MAX];
	unsigned n_networks;
	struct cfg_peer *peers; /* n_peers, owned */
	unsigned n_peers;
	struct cfg_call calls[CFG_CALLS_MAX];
	unsigned n_calls;
};

/* file names the text in error sentences. On error nothing is returned and *e says where and what. */
MUST_CHECK enum err config_parse(const char *file, struct span text, struct config **ret, struct conf_error *e);
/* What is in the peer's ca_file. ERR_MALFORMED: not the certificate of a CA. */
MUST_CHECK enum err config_set_ca(struct cfg_peer *p, struct span pem);
void config_free(struct config *c); /* wipes passwords and keys */
const struct cfg_service *config_service(const struct config *c, const char *name);
const struct cfg_network *config_network(const struct config *c, const char *name);
/* The pool of a family; NULL: none. */
const struct addr_prefix *config_pool(const struct cfg_network *n, enum addr_family family);
bool config_prefixes_have(const struct cfg_prefixes *l, const struct addr_prefix *p); /* all of p in one of them */
/* May it be a network's, or be accepted as one? Not everything, and nothing that has a meaning of its own. */
bool config_prefix_sane(const struct addr_prefix *p);
const struct cfg_peer *config_peer(const struct config *c, const char *aor);
bool config_plain_esp(const struct config *c);
bool config_wants_kernel(const struct config *c);
/* ESP in the kernel: may it be of use? */ /* some peer may have ESP without UDP */
