/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/raw.h - ESP as an IP protocol of its own (RFC 4303), by raw sockets; a kernel without ESP hands all of it up. Such a socket
 * sees the ESP of the whole machine: what is not ours has another SPI. Batches and buffers are those of net/udp.h; what leaves does so
 * by udp_send_trains(), of a `raw` sender. */
#pragma once
#include "net/udp.h"

/* Takes CAP_NET_RAW. */
MUST_CHECK enum err raw_esp_open(enum addr_family family, int *ret_fd);
/* As udp_recv_trains(), with TRANSPORT_ESP in the paths and no ports; an IPv4 header is taken away. */
unsigned raw_esp_recv(int fd, uint8_t (*bufs)[UDP_TRAIN_MAX], unsigned n, struct udp_msg *ret);
