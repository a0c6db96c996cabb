/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/err.h - what a function that can fail returns.
 *
 * Results go out through ret_ pointers, which are written on success only. The
 * values separate what an operator must tell apart; a sentence for a person is
 * made by the layer that knows the peer. */
#pragma once

enum err {
	OK = 0,
	ERR_MALFORMED, /* bytes or text do not follow their format */
	ERR_AUTH, /* a MAC, signature, fingerprint or password is wrong */
	ERR_DENIED, /* understood, but not allowed here */
	ERR_LIMIT, /* a written bound was reached, or a buffer is too small */
	ERR_WRONG_STATE, /* right message, wrong moment */
	ERR_NOTFOUND,
	ERR_UNSUPPORTED, /* well formed, but nothing we do */
	ERR_NOMEM,
	ERR_SYSTEM, /* a system call or a library failed */
	ERR_COUNT
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* "malformed", "not authentic", ...; never NULL. */
const char *err_name(enum err e);
