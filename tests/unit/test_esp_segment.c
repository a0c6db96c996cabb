/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "esp_stream.h"
#include "harness.h"

static uint8_t super[ESP_SUPER_MAX], out[ESP_SUPER_MAX];

/* A flow of one kind, and its super-packet of `payload` bytes. */
static size_t make(struct stream_flow *f, bool v6, bool udp, size_t payload, uint16_t part, struct vnet *v)
{
	static struct stream s;
	static struct rng_seeded seed;
	size_t l3, len;

	s.rng = rng_seeded_init(&seed, 3);
	f->v6 = v6;
	f->udp = udp;
	l3 = stream_ip(f, super, 0);
	len = l3 + stream_l4(&s, f, super + l3, payload);
	stream_finish(f, super, l3, len);
	put_be16(super + l3 + (udp ? 6 : 16), (uint16_t)stream_pseudo(super, udp ? 17 : 6, len - l3));
	*v = (struct vnet){ .flags = VNET_NEEDS_CSUM,
			    .gso_type = v6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4,
			    .gso_size = part,
			    .csum_start = (uint16_t)l3,
			    .csum_offset = udp ? 6 : 16 };
	if (udp)
		v->gso_type = VNET_GSO_UDP_L4;
	return len;
}

static const struct stream_flow base = { .df = true,
					 .tos = 2,
					 .ttl = 64,
					 .flags = S_ACK | S_PSH | S_FIN | S_CWR | S_ECE,
					 .opt_len = 12,
					 .opt = { 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8 },
					 .sport = 1000,
					 .dport = 2000,
					 .id = 0xfffe,
					 .window = 500,
					 .seq = 0xfffffff0,
					 .ack = 77,
					 .src = 1,
					 .dst = 2 };

static enum err parse(size_t len, const struct vnet *v, struct esp_super *ret)
{
	return esp_super_parse(span_of(super, len), v, ret);
}

/* Identification and sequence count over their ends; flags are where they belong. */
static void tcp(bool v6)
{
	struct stream_flow f = base;
	struct esp_super s;
	struct vnet v;
	size_t len = make(&f, v6, false, 2501, 1000, &v), l3 = v6 ? 40 : 20;

	assert_int_equal(parse(len, &v, &s), OK);
	assert_int_equal(s.n, 3);
	assert_int_equal(s.len, l3 + 32 + 1000);
	assert_int_equal(s.len_last, l3 + 32 + 501);
	for (unsigned i = 0; i < 3; i++) {
		size_t part = i < 2 ? 1000 : 501, got = esp_super_segment(&s, i, out, sizeof(out));
		uint8_t flags = S_ACK | S_ECE;

		assert_int_equal(got, l3 + 32 + part);
		assert_true(stream_sums_right(out, got));
		assert_int_equal(be32(out + l3 + 4), (uint32_t)(0xfffffff0 + i * 1000));
		if (!i)
			flags |= S_CWR;
		if (i == 2)
			flags |= S_PSH | S_FIN;
		assert_int_equal(out[l3 + 13], flags);
		if (v6) {
			assert_int_equal(be32(out), 0x60200000);
			assert_int_equal(be16(out + 4), got - 40);
		} else {
			assert_int_equal(out[1], 2);
			assert_int_equal(be16(out + 2), got);
			assert_int_equal(be16(out + 4), (uint16_t)(0xfffe + i));
			assert_int_equal(be16(out + 6), 0x4000);
		}
		assert_memory_equal(out + l3 + 20, base.opt, 12);
		assert_memory_equal(out + l3 + 32, super + l3 + 32 + i * 1000, part);
		assert_int_equal(esp_super_segment(&s, i, out, got - 1), 0);
	}
	assert_int_equal(esp_super_segment(&s, 3, out, sizeof(out)), 0);
}

static void tcp4(void **state)
{
	(void)state;
	tcp(false);
}

static void tcp6(void **state)
{
	(void)state;
	tcp(true);
}

static void udp(void **state)
{
	struct stream_flow f = base;
	struct esp_super s;
	struct vnet v;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		size_t len = make(&f, v6, true, 3000, 1000, &v), l3 = v6 ? 40 : 20;

		assert_int_equal(parse(len, &v, &s), OK);
		assert_int_equal(s.n, 3);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(esp_super_segment(&s, i, out, l3 + 1008), l3 + 1008);
			assert_true(stream_sums_right(out, l3 + 1008));
			assert_int_equal(be16(out + l3 + 4), 1008);
			if (!v6)
				assert_int_equal(be16(out + 4), (uint16_t)(0xfffe + i));
			assert_memory_equal(out + l3 + 8, super + l3 + 8 + i * 1000, 1000);
		}
	}
}

/* A UDP checksum that comes out as 0 is sent as 0xffff, a TCP one as it is. */
static void zero_checksum(void **state)
{
	struct esp_super s;
	struct vnet v;

	(void)state;
	for (int is_udp = 0; is_udp < 2; is_udp++) {
		struct stream_flow f = base;
		size_t len = make(&f, false, is_udp, 2000, 1000, &v), csum = is_udp ? 26 : 36,
		       tail = is_udp ? 1026 : 1050;
		uint16_t partial;

		put_be16(super + tail, 0);
		assert_int_equal(parse(len, &v, &s), OK);
		(void)esp_super_segment(&s, 0, out, sizeof(out));
		put_be16(super + tail, be16(out + csum));
		assert_true(esp_super_segment(&s, 0, out, sizeof(out)) > 0);
		assert_int_equal(be16(out + csum), is_udp ? 0xffff : 0);

		/* the same for one packet whose sum is to be finished */
		f.flags = S_ACK;
		len = make(&f, false, is_udp, 100, 1000, &v);
		v.gso_type = VNET_GSO_NONE;
		partial = be16(super + csum);
		put_be16(super + len - 2, 0);
		assert_int_equal(parse(len, &v, &s), OK);
		(void)esp_super_segment(&s, 0, out, sizeof(out));
		put_be16(super + len - 2, be16(out + csum));
		put_be16(super + csum, partial);
		assert_int_equal(esp_super_segment(&s, 0, out, sizeof(out)), len);
		assert_int_equal(be16(out + csum), is_udp ? 0xffff : 0);
	}
}

static void one_packet(void **state)
{
	struct stream_flow f = base;
	struct esp_super s;
	struct vnet v;
	size_t len = make(&f, true, false, 333, 1000, &v);

	(void)state;
	/* shorter than a segment: one, with all its flags */
	assert_int_equal(parse(len, &v, &s), OK);
	assert_int_equal(s.n, 1);
	assert_int_equal(esp_super_segment(&s, 0, out, sizeof(out)), len);
	assert_true(stream_sums_right(out, len));
	assert_int_equal(out[53], base.flags);
	/* without segmentation the checksum is finished all the same */
	v.gso_type = VNET_GSO_NONE;
	assert_int_equal(parse(len, &v, &s), OK);
	assert_int_equal(esp_super_segment(&s, 0, out, len - 1), 0);
	assert_int_equal(esp_super_segment(&s, 0, out, len), len);
	assert_true(stream_sums_right(out, len));
	/* or nothing is done */
	v = (struct vnet){ .flags = VNET_DATA_VALID, .csum_start = 9999 };
	assert_int_equal(parse(len, &v, &s), OK);
	assert_int_equal(esp_super_segment(&s, 0, out, len), len);
	assert_memory_equal(out, super, len);
	/* no payload at all */
	len = make(&f, true, false, 0, 1000, &v);
	assert_int_equal(parse(len, &v, &s), OK);
	assert_int_equal(s.n, 1);
	assert_int_equal(esp_super_segment(&s, 0, out, len), len);
	assert_true(stream_sums_right(out, len));
}

/* Options of IPv4 and extension headers of IPv6 are in every segment. */
static void between(void **state)
{
	struct stream_flow f = base;
	struct esp_super s;
	struct vnet v;
	size_t len = make(&f, false, false, 2000, 1000, &v);

	(void)state;
	memmove(super + 24, super + 20, len - 20);
	memcpy(super + 20, "\x94\x04\0\0", 4); /* router alert (RFC 2113) */
	super[0] = 0x46;
	put_be16(super + 2, (uint16_t)(len + 4));
	v.csum_start = 24;
	assert_int_equal(parse(len + 4, &v, &s), OK);
	assert_int_equal(esp_super_segment(&s, 1, out, sizeof(out)), 24 + 32 + 1000);
	assert_true(stream_sums_right(out, 24 + 32 + 1000));
	assert_memory_equal(out + 20, super + 20, 4);

	len = make(&f, true, false, 2000, 1000, &v);
	memmove(super + 48, super + 40, len - 40);
	memcpy(super + 40, "\x06\0\x01\x04\0\0\0\0", 8);
	super[6] = 60;
	put_be16(super + 4, (uint16_t)(len - 32));
	v.csum_start = 48;
	assert_int_equal(parse(len + 8, &v, &s), OK);
	assert_int_equal(esp_super_segment(&s, 1, out, sizeof(out)), 48 + 32 + 1000);
	assert_int_equal(stream_sum(out + 48, 1032, stream_pseudo(out, 6, 1032)), 0xffff);
	assert_memory_equal(out + 40, super + 40, 8);
	/* a routing header at its end; one with segments left; a fragment header */
	super[6] = 43;
	super[43] = 0;
	assert_int_equal(parse(len + 8, &v, &s), OK);
	super[43] = 1;
	assert_int_equal(parse(len + 8, &v, &s), ERR_UNSUPPORTED);
	super[6] = 44;
	assert_int_equal(parse(len + 8, &v, &s), ERR_MALFORMED);
	super[6] = 60;
	super[41] = 255;
	assert_int_equal(parse(len + 8, &v, &s), ERR_MALFORMED);
}

static void limits(void **state)
{
	struct stream_flow f = base;
	struct esp_super s;
	struct vnet v;
	size_t len;

	(void)state;
	f.opt_len = 0;
	/* the longest, and the most */
	len = make(&f, true, false, 65535 - 20, 8, &v);
	assert_int_equal(len, ESP_SUPER_MAX);
	assert_int_equal(parse(len, &v, &s), OK);
	assert_int_equal(s.n, 8190);
	assert_int_equal(esp_super_segment(&s, 8189, out, 68), 40 + 20 + 65515 % 8);
	assert_true(stream_sums_right(out, 63));
	v.gso_size = 7;
	assert_int_equal(parse(len, &v, &s), ERR_LIMIT);
	v.gso_size = 0;
	assert_int_equal(parse(len, &v, &s), ERR_MALFORMED);
	v.gso_size = 8;
	assert_int_equal(parse(len + 1, &v, &s), ERR_MALFORMED);
	assert_int_equal(parse(0, &v, &s), ERR_MALFORMED);
	v.gso_type = VNET_GSO_NONE;
	v.csum_start = 65535;
	v.csum_offset = 38;
	assert_int_equal(parse(len, &v, &s), OK);
	v.csum_offset = 39;
	assert_int_equal(parse(len, &v, &s), ERR_MALFORMED);
	assert_int_equal(parse(len + 1, &v, &s), ERR_MALFORMED);
}

/* One wrong byte or number each. */
static void refused(void **state)
{
	static const struct {
		const char *name;
		bool v6, udp;
		size_t at;
		uint8_t byte;
	} rows[] = {
		{ "version 5", false, false, 0, 0x55 },
		{ "version 6 of IPv4", false, false, 0, 0x65 },
		{ "header under 20", false, false, 0, 0x44 },
		{ "header beyond the upper layer", false, false, 0, 0x4f },
		{ "total length", false, false, 3, 1 },
		{ "more fragments", false, false, 6, 0x20 },
		{ "fragment offset", false, false, 7, 1 },
		{ "reserved flag", false, false, 6, 0x80 },
		{ "UDP with TCP's type", false, false, 9, 17 },
		{ "TCP header under 20", false, false, 32, 0x40 },
		{ "TCP header of 60 in 52", false, false, 32, 0xf0 },
		{ "payload length", true, false, 5, 1 },
		{ "no TCP in IPv6", true, false, 6, 50 },
		{ "TCP with UDP's type", false, true, 9, 6 },
		{ "UDP length", true, true, 45, 1 },
	};
	static const struct {
		const char *name;
		struct vnet v;
		enum err e;
	} heads[] = {
		{ "good", { 1, 1, 0, 10, 20, 16 }, OK },
		{ "without a checksum to finish", { 0, 1, 0, 10, 0, 0 }, OK },
		{ "with CWR", { 1, 0x81, 0, 10, 20, 16 }, OK },
		{ "start", { 1, 1, 0, 10, 24, 16 }, ERR_MALFORMED },
		{ "offset", { 1, 1, 0, 10, 20, 6 }, ERR_MALFORMED },
		{ "IPv6's", { 1, 4, 0, 10, 20, 16 }, ERR_MALFORMED },
		{ "UDP's", { 1, 5, 0, 10, 20, 16 }, ERR_MALFORMED },
		{ "UDP with CWR", { 1, 0x85, 0, 10, 20, 16 }, ERR_UNSUPPORTED },
		{ "nothing with CWR", { 1, 0x80, 0, 10, 20, 16 }, ERR_UNSUPPORTED },
		{ "fragments of UDP", { 1, 3, 0, 10, 20, 16 }, ERR_UNSUPPORTED },
		{ "unknown", { 1, 2, 0, 10, 20, 16 }, ERR_UNSUPPORTED },
	};
	struct stream_flow f = base;
	struct esp_super s;
	struct vnet v;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* the header alone, but for one byte */
		size_t len = make(&f, rows[i].v6, rows[i].udp, 1, 1000, &v);

		assert_int_equal(parse(len, &v, &s), OK);
		super[rows[i].at] = rows[i].byte;
		if (parse(len, &v, &s) != ERR_MALFORMED)
			fail_msg("%s", rows[i].name);
	}
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		size_t len = make(&f, false, false, 100, 10, &v);

		if (parse(len, &heads[i].v, &s) != heads[i].e)
			fail_msg("%s", heads[i].name);
	}
}

/* Cut off anywhere, it is refused or cut within its bounds. */
static void cuts(void **state)
{
	struct stream_flow f = base;
	struct esp_super s;
	struct vnet v;

	(void)state;
	for (int k = 0; k < 4; k++) {
		size_t len = make(&f, k & 1, k & 2, 50, 20, &v);

		for (size_t cut = 1; cut < len; cut++) {
			uint8_t *exact = malloc(cut);

			assert_non_null(exact);
			memcpy(exact, super, cut);
			assert_int_equal(esp_super_parse(span_of(exact, cut), &v, &s), ERR_MALFORMED);
			/* with the length corrected */
			if (cut >= 6)
				put_be16(exact + (k & 1 ? 4 : 2), (uint16_t)(k & 1 ? cut - 40 : cut));
			if (esp_super_parse(span_of(exact, cut), &v, &s) == OK)
				for (unsigned i = 0; i < s.n; i++)
					assert_true(esp_super_segment(&s, i, out, s.len) > 0);
			free(exact);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp4),          cmocka_unit_test(tcp6),       cmocka_unit_test(udp),
		cmocka_unit_test(zero_checksum), cmocka_unit_test(one_packet), cmocka_unit_test(between),
		cmocka_unit_test(limits),        cmocka_unit_test(refused),    cmocka_unit_test(cuts),
	};

	return HARNESS_RUN(tests);
}
