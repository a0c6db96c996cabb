/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/config_impl.h - inside vpn/ only: one value of the configuration, whatever its section. Each says in *expected what would
 * have been right, for the error message. */
#pragma once
#include "base/conf.h"
#include "vpn/config.h"

MUST_CHECK enum err config_set_text(struct span v, char *dst, size_t cap, const char *what, const char **expected);
MUST_CHECK enum err config_set_aor(struct span v, char *dst, const char **expected);
MUST_CHECK enum err config_set_name(struct span v, char *dst, const char **expected);
MUST_CHECK enum err config_set_bool(struct span v, bool *ret, const char **expected);
MUST_CHECK enum err config_set_duration(struct span v, uint32_t lo, uint32_t hi, uint32_t *ret, const char **expected);
MUST_CHECK enum err config_set_port(struct span v, uint32_t lo, uint16_t *ret, const char **expected);
MUST_CHECK enum err config_set_host(struct span v, uint16_t default_port, struct cfg_host *ret, const char **expected);
/* "0x" and hex digits of min bytes or more, not something that a person could have thought of. */
MUST_CHECK enum err config_set_secret(struct span v, size_t min, struct cfg_secret *ret, const char **expected);
/* A name, a blank, and a secret of 32 bytes or more. */
MUST_CHECK enum err config_set_ppk(struct span v, struct cfg_peer *p, const char **expected);
MUST_CHECK enum err config_set_ca_file(struct span v, struct cfg_peer *p, const char **expected);
/* What goes together in a [peer] section. */
MUST_CHECK enum err config_check_proofs(const struct cfg_peer *p, const char **expected);
/* A psk is of one peer only. */
MUST_CHECK enum err config_check_secrets(const char *file, const struct config *c, struct conf_error *e);
/* Prefixes, separated by commas or blanks, behind those that are there. */
MUST_CHECK enum err config_set_prefixes(struct span v, struct cfg_prefixes *ret, const char **expected);
/* The next word of a list; its rest stays in *v. */
struct span config_word(struct span *v);
/* config_network.c */
extern const struct conf_key config_network_keys[];
enum err config_network_begin(void *arg, struct span name, void **ret, const char **x);
enum err config_network_end(void *arg, void *o, const char **x);
/* What goes together across sections. */
MUST_CHECK enum err config_check_networks(const char *file, const struct config *c, struct conf_error *e);
void config_wipe_peer(struct cfg_peer *p);
/* config_peer.c */
extern const struct conf_key config_peer_keys[];
enum err config_peer_begin(void *arg, struct span name, void **ret, const char **x);
enum err config_peer_end(void *arg, void *o, const char **x);
