/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/buffers.h - the memory for packets of one that moves them (a worker, or the daemon's only thread): all that it
 * needs, made once. */
#pragma once
#include "net/udp.h"
#include "net/vnet.h"

/* Our choices. Trains are few in a batch, single datagrams would be many: they are taken for a longer batch at once, and then
 * take a page each of a buffer. */
#define NET_IN 16

/* 16 * 64 KiB + 64 KiB: 1088 KiB. Pages that were never used are not resident. */
struct net_buffers {
	uint8_t in[NET_IN][UDP_TRAIN_MAX]; /* udp_recv_trains(): opened in place, and written from here into the TUN */
	uint8_t tun[VNET_PACKET_MAX]; /* vnet_read() */
};
struct net_buffers *net_buffers_new(void); /* NULL: out of memory */
void net_buffers_free(struct net_buffers *b);
