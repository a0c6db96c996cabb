/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/demux.h"

/* RFC 8489, 5: fixed in every message, at offset 4. (ice/ has its own: net/ knows no protocol folder.) */
#define STUN_COOKIE 0x2112A442u
#define STUN_HDR 20
/* SPI and sequence number, RFC 4303, 2. */
#define ESP_HDR 8

enum demux_kind demux_classify(struct span d)
{
	uint8_t first;

	if (!d.len)
		return DEMUX_DROP;
	first = d.p[0];
	if (first >= 0xC0) {
		/* The receiver chooses its inbound SPIs, ours have both top bits set. RFC 3948, 2.3: a keepalive
		 * is one octet 0xFF. */
		if (d.len >= ESP_HDR)
			return DEMUX_ESP;
		return d.len == 1 && first == 0xFF ? DEMUX_KEEPALIVE : DEMUX_DROP;
	}
	if (d.len < 4)
		return DEMUX_DROP;
	/* RFC 3948, 2.2: the non-ESP marker. A STUN message cannot begin so: type 0 is a Binding request of
	 * method 0, which RFC 8489, 18.2 reserves. */
	if (be32(d.p) == 0)
		return DEMUX_IKE;
	if (first < 0x40) {
		/* RFC 8489, 5: the length counts what follows the header, padded to 4. */
		if (d.len >= STUN_HDR && be32(d.p + 4) == STUN_COOKIE && d.len % 4 == 0 &&
		    be16(d.p + 2) + (size_t)STUN_HDR == d.len)
			return DEMUX_STUN;
		return DEMUX_DROP;
	}
	/* RFC 8656, 12: channel numbers are 0x4000 to 0x4FFF. Whether the source is a relay of ours, the caller
	 * knows. */
	if (first < 0x50 && d.len >= PATH_CHANNEL_HDR)
		return DEMUX_CHANNEL;
	return DEMUX_DROP;
}

bool demux_channel(struct span d, struct demux_inside *ret)
{
	size_t len;

	if (demux_classify(d) != DEMUX_CHANNEL)
		return false;
	len = be16(d.p + 2);
	if (len > d.len - PATH_CHANNEL_HDR)
		return false;
	ret->channel = be16(d.p);
	ret->bytes = span_sub(d, PATH_CHANNEL_HDR, len);
	ret->kind = demux_classify(ret->bytes);
	return true;
}

const char *demux_kind_name(enum demux_kind k)
{
	switch (k) {
	case DEMUX_IKE: return "ike";
	case DEMUX_STUN: return "stun";
	case DEMUX_CHANNEL: return "channel";
	case DEMUX_ESP: return "esp";
	case DEMUX_KEEPALIVE: return "keepalive";
	case DEMUX_DROP: break;
	}
	return "drop";
}
