/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tieline.h - talk to a running tielined (libtieline).
 *
 * The control protocol is one JSON object a line over a UNIX stream socket (docs/control-protocol.md).
 * This client sends commands and hands back lines; it blocks, and needs nothing but libc. One
 * handle belongs to one thread. Strings returned are valid until the next call on the handle. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TIELINE_LINE_MAX 65536

struct tieline;

/* path NULL: $TIELINE_CONTROL, else /run/tieline/control. 0, or an errno value. */
int tieline_open(const char *path, struct tieline **ret);
void tieline_close(struct tieline *t); /* a call made without `detach` is hung up by this */
int tieline_fd(const struct tieline *t); /* to poll */
/* Sends one command: a JSON object without its newline. 0, or an errno value (EMSGSIZE: too long). */
int tieline_send(struct tieline *t, const char *json);
/* Next line into *ret, NUL-terminated. 0; EAGAIN after timeout_ms (-1: wait); EINTR: a signal came; EPIPE: the daemon
 * is gone; EMSGSIZE: a line over TIELINE_LINE_MAX. */
int tieline_next(struct tieline *t, int timeout_ms, const char **ret);

#ifdef __cplusplus
}
#endif
