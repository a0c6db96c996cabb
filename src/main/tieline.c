/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "cli/cli.h"

int main(int argc, char **argv)
{
	return cli_run(argc, argv, stdout, stderr);
}
