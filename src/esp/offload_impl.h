/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/offload_impl.h - where the fields stand that cutting and merging change (RFC 791, 8200, 9293, 768). */
#pragma once

enum {
	IP4_HEADER = 20, /* without options */
	IP4_AT_TOS = 1,
	IP4_AT_LEN = 2,
	IP4_AT_ID = 4,
	IP4_AT_FRAGMENT = 6,
	IP4_AT_TTL = 8,
	IP4_AT_PROTOCOL = 9,
	IP4_AT_CSUM = 10,
	IP4_AT_SRC = 12,
	IP4_DONT_FRAGMENT = 0x4000,
	IP6_HEADER = 40,
	IP6_AT_LEN = 4,
	IP6_AT_NEXT = 6,
	IP6_AT_HOPS = 7,
	IP6_AT_SRC = 8,
	TCP_HEADER = 20, /* without options */
	TCP_AT_SEQ = 4,
	TCP_AT_ACK = 8,
	TCP_AT_OFFSET = 12,
	TCP_AT_FLAGS = 13,
	TCP_AT_WINDOW = 14,
	TCP_AT_CSUM = 16,
	TCP_AT_URGENT = 18,
	TCP_FIN = 1,
	TCP_PSH = 8,
	TCP_ACK = 16,
	TCP_ECE = 64,
	TCP_CWR = 128,
	UDP_HEADER = 8,
	UDP_AT_LEN = 4,
	UDP_AT_CSUM = 6
};
