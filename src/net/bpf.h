/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/bpf.h - the split of docs/protocol.md as a classic BPF program for SO_ATTACH_REUSEPORT_CBPF. It sees the UDP
 * payload and returns the index of a socket in the order of binding: 0 for everything but ESP, for ESP,
 * in ChannelData or not, 1 + (SPI mod n_data). It agrees with demux_classify() and demux_channel(); a unit test holds them together. */
#pragma once
#include <linux/filter.h>

#define BPF_SPLIT_MAX 18
/* Writes at most BPF_SPLIT_MAX instructions; returns how many. n_data > 0. */
unsigned bpf_split_write(unsigned n_data, struct sock_filter dst[BPF_SPLIT_MAX]);
