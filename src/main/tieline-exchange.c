/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "exchange/host.h"

int main(int argc, char **argv)
{
	return exchange_main(argc, argv);
}
