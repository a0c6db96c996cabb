/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/fuzz/replay.h - for targets whose one run takes as long as a thousand of a parser's: such a target defines how many
 * cuts of a file its replay makes, spread evenly, instead of one at every length. A fuzzer takes no notice. */
#pragma once

extern const unsigned fuzz_replay_cuts __attribute__((weak));
