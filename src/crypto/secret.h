/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/secret.h - wiping and comparing secrets, and the system's randomness. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/rng.h"

void secret_wipe(void *p, size_t len); /* not optimised away; p may be NULL when len is 0 */
bool secret_eq(const void *a, const void *b, size_t len); /* constant time */
/* OpenSSL's generator. A failure aborts. */
struct rng crypto_rng(void);
