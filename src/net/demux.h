/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/demux.h - what a datagram on the tunnel port is (docs/protocol.md): a pure function of its bytes,
 * and the classic BPF program that makes the same split in the kernel. */
#pragma once
#include "base/buf.h"

enum demux_kind { DEMUX_IKE, DEMUX_STUN, DEMUX_CHANNEL, DEMUX_ESP, DEMUX_KEEPALIVE, DEMUX_DROP };
enum demux_kind demux_classify(struct span d);
const char *demux_kind_name(enum demux_kind k); /* "ike", "stun", "channel", "esp", "keepalive", "drop" */
