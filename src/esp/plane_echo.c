/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/plane_echo.c - echoes of our own through a call's SAs, of a certain size: what its path carries, where ICE does not tell
 * (docs/protocol.md). Their replies end here. */
#include <string.h>

#include "esp/plane_impl.h"

/* LONGEST: of packets that come from the TUN (net/tun.h): more need not pass. A TUN like ours at the other side does not cut the
 * reply, of which a part may be lost. */
enum { HEADERS = 40 + 8, ECHO = 128, REPLY = 129, LONGEST = 1400 };

/* The newest SA of the call through which such an echo may go. */
static struct esp_sa *sa_for(const struct esp_plane *p, uint32_t call, const uint8_t peer[16])
{
	struct esp_tuple t = { .family = ADDR_IP6, .protocol = ESP_PROTO_ICMP6 };
	const struct esp_call *c = esp_sadb_call(&p->sadb, call);
	struct esp_sa *sa;

	t.local_port = t.peer_port = ECHO << 8;
	memcpy(t.local_ip, p->self, 16);
	memcpy(t.peer_ip, peer, 16);
	for (sa = c ? c->newest : NULL; sa; sa = sa->older)
		if (sa->allow_ping && (!sa->ping_one_way || plane_may_open(sa, false)) && plane_sends(sa) &&
		    esp_sa_covers(sa, &t))
			break;
	return sa;
}

static void echo_write(const struct esp_plane *p, const uint8_t peer[16], uint16_t id, uint16_t seq, uint8_t *out,
		       size_t len)
{
	struct wr w = wr_of(out, len);
	uint8_t *icmp = out + 40;
	uint32_t sum = (uint32_t)(len - 40) + ESP_PROTO_ICMP6;

	wr_u32(&w, 0x60000000);
	wr_u16(&w, (uint16_t)(len - 40));
	wr_u8(&w, ESP_PROTO_ICMP6);
	wr_u8(&w, 64);
	wr_bytes(&w, p->self, 16);
	wr_bytes(&w, peer, 16);
	wr_u32(&w, (uint32_t)ECHO << 24);
	wr_u16(&w, id);
	wr_u16(&w, seq);
	rng_fill(&p->sadb.rng, out + HEADERS, len - HEADERS); /* nothing on the way makes it shorter */
	for (size_t i = 8; i < len; i += 2)
		sum += (uint32_t)out[i] << 8 | (i + 1 < len ? out[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put_be16(icmp + 2, (uint16_t)~sum);
}

bool esp_plane_may_echo(const struct esp_plane *p, uint32_t call, const uint8_t peer[16])
{
	const struct esp_sa *sa = sa_for(p, call, peer);

	return sa && sa->path.remote.family != ADDR_NONE && !sa->call->held;
}

bool esp_plane_echo(struct esp_plane *p, uint32_t call, const uint8_t peer[16], unsigned size, struct esp_packet *ret)
{
	struct esp_inner pkt = { .ends.family = ADDR_IP6 };
	struct esp_sa *sa = sa_for(p, call, peer);
	size_t len;

	if (!sa || !esp_plane_may_echo(p, call, peer) || plane_used_up(sa) || size > ESP_PACKET_MAX)
		return false;
	len = size > esp_sa_around(sa) ? esp_packet_inner_max(&sa->out, size - esp_sa_around(sa)) : 0;
	len = len < LONGEST ? len : LONGEST;
	if (len < HEADERS)
		return false;
	if (!sa->call->echo_id)
		sa->call->echo_id = (uint16_t)(rng_u32(&p->sadb.rng) | 1);
	echo_write(p, peer, sa->call->echo_id, (uint16_t)size, p->piece, len);
	/* the first place of p->out: nobody holds it now */
	if (plane_seal(p, sa, &pkt, span_of(p->piece, len), 0, ret) != PASSED)
		return false;
	plane_life_note(p, sa, len);
	return true;
}

bool plane_echo_note(struct esp_plane *p, struct esp_sa *sa, const struct esp_inner *pkt, const uint8_t *packet)
{
	struct echoed *e = &p->echoed[(p->echoed_head + p->n_echoed) % ESP_ECHOED_MAX];

	/* numbers that nobody else's echoes get to, should their id be ours */
	unsigned size = be16(packet + pkt->upper + 6);

	if (pkt->icmp_type != REPLY || pkt->ends.family != ADDR_IP6 || pkt->icmp_id != sa->call->echo_id ||
	    size < ESP_MTU_MIN || memcmp(pkt->ends.dst, p->self, 16))
		return false;
	if (p->n_echoed == ESP_ECHOED_MAX)
		return true;
	*e = (struct echoed){ .call = sa->call->call, .size = size };
	p->n_echoed++;
	return true;
}

bool esp_plane_poll_echo(struct esp_plane *p, uint32_t *ret_call, unsigned *ret_size)
{
	if (!p->n_echoed)
		return false;
	*ret_call = p->echoed[p->echoed_head].call;
	*ret_size = p->echoed[p->echoed_head].size;
	p->echoed_head = (p->echoed_head + 1) % ESP_ECHOED_MAX;
	p->n_echoed--;
	return true;
}
