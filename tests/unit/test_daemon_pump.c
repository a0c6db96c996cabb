/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What a relay brings that strayed to the engine's thread: ESP comes to its SA as with a worker, all else is dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "control_engine.h"
#include "esp/packet.h"
#include "esp_pair.h"
#include "harness.h"

static struct control_engine engine;
static uint64_t seq;

/* From this server a frame of this channel, `more` bytes longer than it says. */
static void relayed(const struct addr *server, uint16_t channel, struct span inside, int more)
{
	struct udp_msg m = { .path = { .remote = *server } };
	uint8_t *bytes = malloc(4 + inside.len);

	assert_non_null(bytes);
	put_be16(bytes, channel);
	put_be16(bytes + 2, (uint16_t)((int)inside.len - more));
	memcpy(bytes + 4, inside.p, inside.len);
	m.p = bytes;
	m.len = 4 + inside.len;
	pump_datagram(&engine.e, 1, &m);
	free(bytes);
}

static uint64_t dropped(enum esp_drop d)
{
	struct esp_counters k;

	esp_set_counters(vpn_data(engine.e.vpn), &k);
	return k.drops[d];
}

static struct span sealed(const struct pkt *pk, uint8_t *buf, size_t cap)
{
	struct esp_sa_config a = pair_config_a(true);
	struct esp_cipher c;
	size_t len;

	seq++;
	assert_int_equal(esp_cipher_init(&c, a.alg, a.key_out, &engine.rng, false), OK);
	assert_int_equal(
		esp_packet_seal(&c, a.spi_out, seq, seq, ESP_NEXT_IP6, span_of(pk->b, pk->len), buf, cap, &len), OK);
	esp_cipher_done(&c);
	return span_of(buf, len);
}

static void by_a_relay(void **state)
{
	struct esp_sa_config a = pair_config_a(true), b = pair_mirror(&a);
	struct pkt pk = pkt_udp(true, HOST_A, 1000, HOST_B, 53, 100);
	struct addr server = addr_ip4(0xcb007101, 3478), other = addr_ip4(0xcb007102, 3478);
	uint8_t got[VNET_PACKET_MAX], buf[ESP_PACKET_MAX];
	struct vnet v;
	struct span esp;
	int tun[2];

	(void)state;
	control_engine_new(&engine, LOG_ERROR);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, tun), 0);
	engine.e.workers[0].tun_fd[0] = tun[0];
	b.path = (struct path){ .remote = server, .channel = 0x4001 };
	assert_int_equal(esp_set_add(vpn_data(engine.e.vpn), 0, &b), OK);
	for (int pad = 0; pad < 4; pad++) {
		esp = sealed(&pk, buf, sizeof(buf));
		relayed(&other, 0x4001, esp, 0);
		relayed(&server, 0x4002, esp, 0);
		assert_int_equal(dropped(ESP_DROP_CHANNEL), 2 * (pad + 1));
		relayed(&server, 0x4001, span_of(buf, esp.len + (size_t)pad), pad);
		assert_int_equal(vnet_read(tun[1], got, sizeof(got), &v), pk.len);
		assert_memory_equal(got, pk.b, pk.len);
	}
	assert_int_equal(engine.e.drops[DEMUX_CHANNEL], 0);
	/* nobody else may have it yet */
	esp = sealed(&pk, buf, sizeof(buf));
	relayed(&server, 0x4001, esp, -1);
	relayed(&server, 0x4001, SPAN_LIT("\0\0\0\0 IKE behind its marker"), 0);
	relayed(&server, 0x4001, SPAN_LIT("\x40\x01\x00\x08\xc0\x00\xb0\x01\x00\x00\x00\x01"), 0);
	relayed(&server, 0x4001, span_of("", 0), 0);
	relayed(&server, 0x4001, SPAN_LIT("\xff"), 0);
	assert_int_equal(engine.e.drops[DEMUX_CHANNEL], 5);
	assert_int_equal(vnet_read(tun[1], got, sizeof(got), &v), 0);
	close(tun[0]);
	close(tun[1]);
	control_engine_free(&engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(by_a_relay) };

	return HARNESS_RUN(tests);
}
