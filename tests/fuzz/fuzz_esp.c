/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A granting plane between a hostile peer, who has the keys, and a host that sends anything. The input is a
 * sequence of steps: kind 1, argument 1, length 2, bytes.
 * covers: src/esp/plane.c src/esp/plane_sa.c src/esp/plane_big.c src/esp/plane_frag.c src/esp/sadb.c src/esp/index.c src/esp/flow.c src/esp/inner.c src/esp/packet.c
   src/esp/replay.c src/esp/frags.c src/esp/cut.c src/esp/plane_echo.c */
#include <stdlib.h>
#include <string.h>

#include "esp/flow.h"
#include "../unit/esp_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEP_OUTER, STEP_SEALED, STEP_INNER, STEP_TIME, STEP_SAS, STEPS };

struct fuzz {
	struct esp_plane *p;
	struct esp_cipher peer_out, peer_in; /* the peer's own two directions */
	struct esp_sa_config sa;
	uint64_t seq, now;
	unsigned mtu;
	struct path by; /* of what comes in */
	unsigned channels; /* that the call's paths have had, a bit each */
	uint8_t buf[ESP_PACKET_MAX + 64];
};

/* Whatever came out, in either direction, lies inside the grant. */
static void judge(const struct esp_packet *pk, bool inbound)
{
	uint8_t here = HOST_B, there = HOST_A;
	struct esp_inner in;
	struct esp_tuple t;

	if (!parsed_alike(span_of(pk->p, pk->len)) || esp_inner_parse(span_of(pk->p, pk->len), &in) != OK ||
	    in.len != pk->len)
		abort();
	t = esp_tuple_of(&in.ends, inbound);
	if (t.family != ADDR_IP6 || t.local_ip[0] != 0xfd || t.local_ip[15] != here || t.peer_ip[0] != 0xfd ||
	    t.peer_ip[15] != there)
		abort();
	if (in.fragment == ESP_LATER) {
		if (in.offset < 8)
			abort(); /* over the ports */
		return;
	}
	if (in.icmp == ESP_ICMP_OTHER || (in.icmp == ESP_ICMP_NONE && t.local_port != 5900 && t.local_port != 53))
		abort();
	if (in.icmp == ESP_ICMP_ERROR && memcmp(in.about.src, in.ends.dst, 16))
		abort();
}

static void into(struct fuzz *f, uint8_t *outer, size_t len, uint8_t tos)
{
	struct esp_packet in = { .p = outer, .len = len, .path = &f->by }, out[ESP_BATCH];

	in.tos = tos;
	if (esp_plane_input(f->p, f->now, &in, 1, out)) {
		if (f->by.channel &&
		    (!(f->channels >> (f->by.channel & 3) & 1) || !addr_eq(&f->by.remote, &f->sa.path.remote)))
			abort();
		judge(&out[0], true);
	}
	while (esp_plane_poll_inner(f->p, &out[0]))
		judge(&out[0], true);
}

static void step_sealed(struct fuzz *f, uint8_t arg, struct span s)
{
	/* The number: mostly the next one, else somewhere about. */
	uint64_t seq = arg & 0x40 ? f->seq - (arg & 15) * 100 : ++f->seq;
	size_t len;

	if (esp_packet_seal(&f->peer_out, f->sa.spi_in, seq, seq, arg & 0x80 ? (uint8_t)(arg & 63) : 41, s, f->buf,
			    sizeof(f->buf), &len) == OK)
		into(f, f->buf, len, arg >> 4 & 3);
}

/* What the datagram's path frames. */
static struct span esp_of(const struct esp_packet *out)
{
	struct span d = span_of(out->p, out->len);

	if (!out->path->channel)
		return d;
	if (d.len < 4 || be16(d.p) != out->path->channel || be16(d.p + 2) != d.len - 4)
		abort();
	return span_from(d, 4);
}

static void step_inner(struct fuzz *f, struct span s)
{
	struct esp_packet in = { .len = s.len }, out[ESP_BATCH_OUT];
	uint8_t plain[ESP_PACKET_MAX], next;
	struct span inner;
	unsigned n;

	if (s.len)
		memcpy(f->buf, s.p, s.len);
	in.p = f->buf;
	n = esp_plane_output(f->p, f->now, &in, 1, out);
	for (unsigned i = 0; i < n; i++) {
		struct span esp = esp_of(&out[i]);

		if (out[i].len > s.len + ESP_OVERHEAD || (f->mtu && out[i].len > f->mtu - 28) ||
		    be32(esp.p) != f->sa.spi_out ||
		    esp_packet_open(&f->peer_in, be32(esp.p + 4), esp, plain, &next, &inner) != OK)
			abort();
		in.p = plain;
		in.len = inner.len;
		judge(&in, false);
	}
	while (esp_plane_poll_inner(f->p, &in)) {
		bool v6 = in.len && in.p[0] >> 4 == 6;

		/* to who sent it, in one piece */
		if (!f->mtu || in.len < 48 || in.len > 1280 || in.p[v6 ? 40 : 20] != (v6 ? 2 : 3) ||
		    memcmp(in.p + (v6 ? 24 : 16), s.p + (v6 ? 8 : 12), v6 ? 16 : 4))
			abort();
	}
}

/* An echo of our own, and its reply, with another number where arg says so. */
static void step_echo(struct fuzz *f, uint8_t arg)
{
	unsigned size = ESP_MTU_MIN - 128 + (arg & 0x1fu) * 16, told;
	uint8_t plain[ESP_PACKET_MAX], next, peer[16];
	struct esp_packet out;
	struct span inner, esp;
	uint32_t call;
	size_t len;

	memcpy(peer, f->sa.ts_peer[0].ip_lo, 16);
	if (!esp_plane_echo(f->p, PAIR_CALL, peer, size, &out))
		return;
	esp = esp_of(&out);
	if (out.len > size || esp_packet_open(&f->peer_in, be32(esp.p + 4), esp, plain, &next, &inner) != OK)
		abort();
	out.p = plain;
	out.len = inner.len;
	judge(&out, false);
	memcpy(plain + 8, peer, 16);
	memcpy(plain + 24, f->sa.ts_local[0].ip_lo, 16);
	plain[40] = 129;
	plain[47] ^= arg & 0x20;
	f->seq++;
	if (esp_packet_seal(&f->peer_out, f->sa.spi_in, f->seq, f->seq, 41, inner, f->buf, sizeof(f->buf), &len) != OK)
		abort();
	into(f, f->buf, len, 0);
	while (esp_plane_poll_echo(f->p, &call, &told))
		if (call != PAIR_CALL || told != (size ^ (arg & 0x20)))
			abort();
}

/* A path with or without a channel, and what comes in by it or by another one. */
static void step_path(struct fuzz *f, uint8_t arg)
{
	f->sa.path.channel = arg & 0x80 ? (uint16_t)(0x4000 | (arg >> 1 & 3)) : 0;
	if (f->sa.path.channel)
		f->channels |= 1u << (arg >> 1 & 3);
	f->by = f->sa.path;
	if (arg & 8)
		f->by.channel = (uint16_t)(0x4000 | (arg >> 4 & 3));
	f->by.remote.port ^= arg & 0x20;
	esp_call_set_path(f->p, PAIR_CALL, &f->sa.path);
}

static void step_sas(struct fuzz *f, uint8_t arg)
{
	struct esp_sa_config c = f->sa;
	struct esp_counters k;

	switch (arg % 6) {
	case 4:
		f->mtu = arg & 0x80 ? 0 : ESP_MTU_MIN + (arg & 0x7fu);
		esp_call_set_mtu(f->p, PAIR_CALL, f->mtu);
		break;
	case 0: esp_call_hold(f->p, PAIR_CALL, arg & 0x80); break;
	case 1:
		/* A sibling with the same keys; nothing is sent with it twice, for the numbers are the fuzzer's. */
		c.spi_in += 1u + (arg >> 4);
		c.grant_id += arg >> 7;
		(void)!esp_sa_add(f->p, f->now, &c);
		break;
	case 2: esp_sa_remove(f->p, c.spi_in + (arg >> 4)); break;
	case 3:
		esp_call_remove(f->p, PAIR_CALL);
		f->mtu = f->channels = 0;
		if (c.path.channel)
			f->channels = 1u << (c.path.channel & 3);
		(void)!esp_sa_add(f->p, f->now, &c);
		break;
	default:
		(void)esp_call_counters(f->p, arg, &k);
		step_path(f, arg);
		if (arg & 0x40)
			step_echo(f, arg);
		break;
	}
}

static void step(struct fuzz *f, unsigned kind, uint8_t arg, struct span s)
{
	switch (kind % STEPS) {
	case STEP_OUTER:
		if (s.len)
			memcpy(f->buf, s.p, s.len);
		if (arg & 1 && s.len >= 4)
			put_be32(f->buf, f->sa.spi_in);
		into(f, f->buf, s.len, 0);
		break;
	case STEP_SEALED: step_sealed(f, arg, s); break;
	case STEP_INNER: step_inner(f, s); break;
	case STEP_TIME:
		f->now += (uint64_t)arg * 997 * (arg & 1 ? 1000u : 40000u);
		if (arg & 2)
			esp_plane_tick(f->p, f->now);
		if (arg & 2 && esp_plane_deadline_us(f->p) <= f->now)
			abort();
		break;
	default: step_sas(f, arg); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = 4, .max_flows = 6 };
	struct esp_sa_config a = pair_config_a(true);
	struct rd r = rd_of(span_of(data, size));
	static struct fuzz f;

	memset(&f, 0, sizeof(f));
	f.now = 1;
	f.sa = pair_mirror(&a);
	if (size && data[0] & 1)
		f.sa.open = ESP_OPEN_BOTH;
	if (size)
		f.sa.alg = (data[0] >> 1) % CIPHER_COUNT;
	memcpy(cfg.self, f.sa.ts_local[0].ip_lo, sizeof(cfg.self));
	if (esp_plane_new(&cfg, &f.p) != OK || esp_sa_add(f.p, f.now, &f.sa) != OK ||
	    esp_cipher_init(&f.peer_out, f.sa.alg, f.sa.key_in, &rng, false) != OK ||
	    esp_cipher_init(&f.peer_in, f.sa.alg, f.sa.key_out, NULL, false) != OK)
		abort();
	rd_skip(&r, 1);
	for (unsigned n = 0; n < 64 && rd_left(&r); n++) {
		uint8_t kind = rd_u8(&r), arg = rd_u8(&r);
		size_t len = rd_u16(&r) % ESP_PACKET_MAX;

		step(&f, kind, arg, rd_span(&r, len < rd_left(&r) ? len : rd_left(&r)));
	}
	esp_cipher_done(&f.peer_out);
	esp_cipher_done(&f.peer_in);
	esp_plane_free(f.p);
	return 0;
}
