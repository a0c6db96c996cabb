/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/netns.h - running a piece of code inside a network namespace, for the files behind net/tun.h. */
#pragma once
#include "base/err.h"

/* Calls fn in a thread that has entered ns_fd (-1: here, without a thread) and waits for it. The caller's own
 * thread never leaves its namespace, so there is no way back that could fail. */
MUST_CHECK enum err netns_run(int ns_fd, enum err (*fn)(void *arg), void *arg);
