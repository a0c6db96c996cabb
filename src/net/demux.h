/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/demux.h - what a datagram on the tunnel port is (docs/protocol.md): a pure function of its bytes,
 * and the classic BPF program that makes the same split in the kernel. */
#pragma once
#include "base/path.h"

enum demux_kind { DEMUX_IKE, DEMUX_STUN, DEMUX_CHANNEL, DEMUX_ESP, DEMUX_KEEPALIVE, DEMUX_DROP };
enum demux_kind demux_classify(struct span d);
/* What is in ChannelData. */
struct demux_inside {
	uint16_t channel;
	struct span bytes;
	enum demux_kind kind; /* of bytes */
};
/* False: it is no ChannelData, or shorter than it says. What stands behind the length that it says is padding (RFC 8656, 12.5, 12.6).
 * Whether it is from a relay of ours, and by a channel that is bound, others know. */
bool demux_channel(struct span d, struct demux_inside *ret);
const char *demux_kind_name(enum demux_kind k); /* "ike", "stun", "channel", "esp", "keepalive", "drop" */
