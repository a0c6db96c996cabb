/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/daemon.h - tielined from its command line to its exit code: 0 clean, 1 run-time, 2 usage or configuration. */
#pragma once

int daemon_main(int argc, char **argv);
