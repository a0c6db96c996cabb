/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/cli.h - the command line client `tieline`: one command a run, over the control socket of a running tielined
 * (include/tieline/tieline.h), and the decoders of inspect/, which need no daemon. */
#pragma once
#include <stdio.h>

/* Runs argv (argv[0] is the program's name). Returns the exit code (man/tieline.1). Results go to out, sentences about
 * failures to err. Signals are blocked while a call is in the foreground, and given back before it returns. */
int cli_run(int argc, char **argv, FILE *out, FILE *err);
