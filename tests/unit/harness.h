/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/harness.h - what every unit test uses: TAP output, the allocation-failure ladder,
 * and the third-party vectors that are read at run time. Include after <cmocka.h>. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include "base/buf.h"

struct CMUnitTest;
int harness_run(const char *name, const struct CMUnitTest *tests, size_t n);
#define HARNESS_RUN(tests) harness_run(__FILE__, tests, sizeof(tests) / sizeof((tests)[0]))

/* Runs `once` with the n-th allocation of our own code failing, for n = 1, 2, 3, ... until a run
 * sees no failure. `once` returns true when it got its full result; that must be so exactly
 * when nothing failed. What it leaks, the sanitizer reports. */
void harness_alloc_ladder(bool (*once)(void *arg), void *arg);

/* A file below the vectors folder ($TIELINE_VECTORS, set by tests/run). Without the folder the test is
 * skipped and these do not return. Caller frees (json_decref, free). */
json_t *harness_json(const char *rel);
struct span harness_file(const char *rel);

/* Hex of a JSON string member into malloc'd memory; fails the test when it is not there. */
struct span harness_hex(const json_t *object, const char *key);
const char *harness_text(const json_t *object, const char *key);
