/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A super-packet with any header: refused, or cut into packets that are whole, have right checksums and together the
 * payload; and merging and cutting them again changes nothing. The input: flags 1, type 1, segment size 2, checksum's
 * start 2 and offset 2, packet. covers: src/esp/segment.c src/esp/sum.c */
#include "../unit/esp_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where the payload begins, by the header's own word; the upper layer begins where the checksum does. */
static size_t head_of(const uint8_t *p, size_t l3, bool udp)
{
	return l3 + (udp ? 8u : (size_t)(p[l3 + 12] >> 4) * 4);
}

static void one(const struct esp_super *sup, const struct vnet *v, struct span packet, unsigned i, struct stream *s)
{
	size_t want = i + 1 < sup->n ? sup->len : sup->len_last, head;
	uint8_t *dst = malloc(want); /* not a byte more */
	bool udp = v->gso_type == VNET_GSO_UDP_L4;

	STREAM_MUST(dst && want <= packet.len && !esp_super_segment(sup, i, dst, want - 1));
	STREAM_MUST(esp_super_segment(sup, i, dst, want) == want);
	if (v->gso_type == VNET_GSO_NONE) {
		if (v->flags & VNET_NEEDS_CSUM) {
			size_t at = (size_t)v->csum_start + v->csum_offset;

			STREAM_MUST(!memcmp(dst, packet.p, at) &&
				    !memcmp(dst + at + 2, packet.p + at + 2, want - at - 2));
		} else {
			STREAM_MUST(!memcmp(dst, packet.p, want));
		}
	} else {
		size_t l3 = sup->l3, l4 = want - l3;

		head = head_of(packet.p, l3, udp);
		STREAM_MUST(!memcmp(dst + head, packet.p + head + (size_t)i * v->gso_size, want - head));
		STREAM_MUST(stream_sum(dst + l3, l4, stream_pseudo(dst, udp ? 17 : 6, l4)) == 0xffff);
		STREAM_MUST(dst[0] >> 4 == 6 || stream_sum(dst, l3, 0) == 0xffff);
		if (want <= STREAM_PACKET)
			stream_put(s, dst, want);
	}
	free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct esp_merge_config cfg = { .uso = true };
	static struct stream s;
	struct rd r = rd_of(span_of(data, size));
	struct vnet v = { .flags = rd_u8(&r), .gso_type = rd_u8(&r) };
	struct esp_super sup;
	struct span packet;

	v.gso_size = rd_u16(&r);
	v.csum_start = rd_u16(&r);
	v.csum_offset = rd_u16(&r);
	packet = rd_rest(&r);
	if (r.bad || esp_super_parse(packet, &v, &sup) != OK)
		return 0;
	STREAM_MUST(sup.n >= 1 && sup.n <= ESP_SEGMENTS_MAX && sup.len_last <= sup.len);
	STREAM_MUST(!esp_super_segment(&sup, sup.n, NULL, SIZE_MAX));
	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < sup.n; i++)
		if (i < 100 || i + 1 == sup.n)
			one(&sup, &v, packet, i, &s);
	if (s.n)
		(void)stream_roundtrip(&s, &cfg, STREAM_MAX);
	stream_done(&s);
	return 0;
}
