/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/host.h - an exchange on real sockets: SIP over UDP and TCP, STUN, signals. What needs rights (ports, whose process it
 * is) is done in host_new(); the user is changed before the first foreign byte is read. */
#pragma once
#include "exchange/exchange.h"

struct host;
/* cfg and log are borrowed for the life of the host. What goes wrong is logged. */
MUST_CHECK enum err host_new(const struct exchange_config *cfg, const struct log_sink *log, struct host **ret);
MUST_CHECK enum err host_run(struct host *h); /* until SIGTERM or SIGINT */
void host_free(struct host *h);

/* The program tieline-exchange; its exit code. */
int exchange_main(int argc, char **argv);
