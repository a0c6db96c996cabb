/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/net_local.h - what tests of sockets ask of the machine. Include after <cmocka.h>. */
#pragma once
#include <unistd.h>

#include "net/udp.h"

static inline void need_root(void)
{
	if (geteuid() != 0) {
		print_message("# needs root\n");
		skip();
	}
}

static inline struct addr loopback(enum addr_family family, uint16_t port)
{
	struct addr a = { .family = family, .port = port };

	if (family == ADDR_IP4)
		return addr_ip4(0x7f000001, port);
	a.ip[15] = 1;
	return a;
}

static inline bool have(enum addr_family family)
{
	struct addr local = loopback(family, 0);
	int fd;

	if (udp_open(&local, &fd, &local) != OK)
		return false;
	(void)close(fd);
	return true;
}
