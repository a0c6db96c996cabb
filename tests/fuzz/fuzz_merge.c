/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A batch of packets on its way into the TUN: merged, and cut again, they are what they were, in order. Byte 0: bit 0
 * USO, bit 1 one identification allowed, bit 2 few writes at once, bit 3 what follows: bytes that a stream of proper
 * packets is drawn by, or the packets themselves: length 2 (its highest bit: with right lengths and checksums,
 * whatever they were), bytes. covers: src/esp/merge.c src/esp/segment.c src/esp/sum.c */
#include "../unit/esp_stream.h"
#include "replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const unsigned fuzz_replay_cuts = 200;

/* As struct rng: the input's bytes, and zeros behind them. */
static void draw(void *arg, void *dst, size_t len)
{
	struct rd *r = arg;
	size_t n = len < rd_left(r) ? len : rd_left(r);

	memset(dst, 0, len);
	rd_bytes(r, dst, n);
}

static void put_right(uint8_t *p, size_t len)
{
	struct stream_flow f = { .v6 = p[0] >> 4 == 6 };
	size_t l3 = f.v6 ? 40 : 20;

	if (len < l3 + 20)
		return;
	if (!f.v6)
		p[0] = 0x45;
	f.udp = p[f.v6 ? 6 : 9] == 17;
	put_be16(p + 10, f.v6 ? be16(p + 10) : 0);
	put_be16(p + l3 + (f.udp ? 6 : 16), 0);
	if (f.udp)
		put_be16(p + l3 + 4, (uint16_t)(len - l3));
	stream_finish(&f, p, l3, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stream s;
	struct esp_merge_config cfg;
	struct rng rng;
	struct rd r;
	unsigned n;

	if (size < 2)
		return 0;
	cfg = (struct esp_merge_config){ .uso = data[0] & 1, .fixed_ids = data[0] & 2 };
	r = rd_of(span_of(data + 2, size - 2));
	rng = (struct rng){ .fill = draw, .arg = &r };
	if (data[0] & 8) {
		stream_init(&s, &rng);
		for (n = 0; n < 100 && rd_left(&r); n++)
			stream_fill(&s, s.n + 1);
	} else {
		memset(&s, 0, sizeof(s));
		for (n = 0; n < 100 && rd_left(&r); n++) {
			uint16_t head = rd_u16(&r);
			size_t len = head % STREAM_PACKET;
			struct span p = rd_span(&r, len < rd_left(&r) ? len : rd_left(&r));

			if (!p.len)
				continue;
			stream_put(&s, p.p, p.len);
			if (head & 0x8000)
				put_right(s.in[s.n - 1].p, p.len);
		}
	}
	if (s.n)
		(void)stream_roundtrip(&s, &cfg, data[0] & 4 ? 1 + data[1] % 16 : STREAM_MAX);
	stream_done(&s);
	return 0;
}
