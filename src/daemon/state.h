/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/state.h - the daemon's files: configuration, identity, pins, audit log. Read before the engine is confined;
 * afterwards only pins and audit log are written. Each function that fails says why on stderr. */
#pragma once
#include <stdbool.h>
#include "vpn/config.h"
#include "vpn/trust.h"

struct daemon_paths {
	const char *conf, *state, *run; /* file, directories */
};

/* malloc'd text, caller frees with secret_wipe; at most CONF_FILE_MAX. ERR_NOTFOUND: no such file. */
MUST_CHECK enum err state_read(const char *path, char **ret, size_t *ret_len);
/* The same of what is open already; fd stays open. */
MUST_CHECK enum err state_read_fd(int fd, char **ret, size_t *ret_len);
/* Replaces the file whole or not at all (temporary name, fsync, rename); mode 0600. */
MUST_CHECK enum err state_write(const char *dir, const char *name, struct span text);
/* The configuration with its password files read. */
MUST_CHECK enum err state_config(const char *path, struct config **ret);
/* Creates dir (0700, owned by user) where it is missing. ERR_NOTFOUND: no such user. */
MUST_CHECK enum err state_directory(const char *dir, const char *user, unsigned mode);
/* identity.key and identity.crt; made at first start, the certificate again when an AOR is new. */
MUST_CHECK enum err state_identity(const char *dir, const struct config *cfg, struct identity **ret);
MUST_CHECK enum err state_trust(const char *dir, const struct config *cfg, struct trust **ret);
/* All files in dir to the user, before root goes away. */
MUST_CHECK enum err state_give(const char *dir, const char *user);
