/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/err.h"

const char *err_name(enum err e)
{
	static const char *const names[ERR_COUNT] = {
		[OK] = "ok",
		[ERR_MALFORMED] = "malformed",
		[ERR_AUTH] = "not authentic",
		[ERR_DENIED] = "not allowed",
		[ERR_LIMIT] = "limit reached",
		[ERR_WRONG_STATE] = "wrong state",
		[ERR_NOTFOUND] = "not found",
		[ERR_UNSUPPORTED] = "not supported",
		[ERR_NOMEM] = "out of memory",
		[ERR_SYSTEM] = "system error",
	};

	return (unsigned)e < ERR_COUNT && names[e] ? names[e] : "unknown error";
}
