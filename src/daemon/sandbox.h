/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/sandbox.h - the engine gives up what it does not need before the first foreign byte. */
#pragma once
#include "base/err.h"

/* Own user and group, no supplementary groups, no capabilities, no_new_privs, not dumpable. ERR_NOTFOUND: no
 * such user. */
MUST_CHECK enum err sandbox_drop(const char *user);
/* Allow-list seccomp filter of the engine: everything else is EPERM for harmless calls and kills for the others. */
MUST_CHECK enum err sandbox_filter(void);
