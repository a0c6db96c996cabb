/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/merge.h - makes super-packets of a batch of packets on their way into the TUN, as a network card's receive
 * offload would: neighbours of one TCP or UDP flow become one write, made of slices of the buffers that they lie in.
 *
 * Merged is only what esp/segment.h, and by the same rules the kernel, cuts again into the very same bytes:
 * - checksums (IPv4 header, TCP, UDP) were verified and are there; IPv4 without options, not a fragment; IPv6 without
 *   extension headers;
 * - addresses, ports, TOS or traffic class with ECN, TTL or hop limit, flow label, DF are equal, IPv4's
 *   identification counts up;
 * - payloads are not empty and of equal size; a shorter one ends the run;
 * - TCP: the sequence goes on; acknowledgement, window, options, reserved bits and ECE are equal; ACK is set, SYN,
 *   RST and URG are not; FIN or PSH ends a run, CWR begins one.
 * Whatever else comes is a write by itself, unchanged.
 *
 * Packets of one flow keep their order, and so do any two between the same addresses of which one has no ports that are
 * seen (fragments, ICMP). Different flows are written in the order of their first packets. No allocation: the caller
 * owns the writes and the buffers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"
#include "base/vnet.h"

/* Our choices. 64 KiB in full-sized packets is 46; of datagrams the kernel's own receive offload takes 64. */
#define ESP_SLICES_MAX 64
#define ESP_RUNS_MAX 8 /* flows that are mixed in a batch and still merged */
#define ESP_WRITE_MAX 65535 /* the longest write of more than one packet */

struct esp_write {
	struct vnet vnet;
	unsigned n; /* slices, which is packets */
	size_t len; /* of all slices */
	struct span slice[ESP_SLICES_MAX]; /* the first begins with the headers */
};

struct esp_merge_config {
	bool uso; /* the TUN takes trains of datagrams (VNET_GSO_UDP_L4) */
	/* Packets with DF that all have one identification are merged, too. Cut again, theirs counts up; nobody may mind
	 * (RFC 6864, 4.1), but only where the packets end at a socket does nobody see. */
	bool fixed_ids;
};

/* A write that packets may still be added to. */
struct esp_run {
	unsigned at; /* of the writes */
	uint32_t hash, seq; /* seq: expected next */
	uint16_t id; /* of the last packet */
	bool id_fixed, verified;
};

struct esp_merge {
	struct esp_merge_config cfg;
	struct esp_write *writes;
	unsigned cap, n, n_runs, victim;
	struct esp_run runs[ESP_RUNS_MAX];
};

/* For one batch: writes has room for cap, at least 1. */
void esp_merge_init(struct esp_merge *m, const struct esp_merge_config *cfg, struct esp_write *writes, unsigned cap);
/* The packet, of 1 to ESP_SUPER_MAX bytes, stays the caller's and must stay where it is until it was written; its
 * headers may be changed. False: not taken, there is no room; finish, write, init and come again. */
MUST_CHECK bool esp_merge_add(struct esp_merge *m, uint8_t *packet, size_t len);
/* Number of writes, to be written in their order. A single packet's vnet says VNET_DATA_VALID if it was looked
 * at, else nothing. */
unsigned esp_merge_finish(struct esp_merge *m);
