/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/ping.c - ICMPv6 echo to a peer's inner address (RFC 4443, 4): made and read here, so that it needs no socket in the
 * namespace and no privilege. */
#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"
#include "daemon/engine.h"

#define PINGS_MAX 16
#define INTERVAL_US SECONDS(1)
#define PATIENCE_US SECONDS(2)
#define PAYLOAD 32
#define PACKET (40 + 8 + PAYLOAD)

struct ping {
	bool used;
	uint64_t token;
	uint8_t peer[16];
	uint16_t id;
	unsigned count, seq, n_replies;
	bool waiting;
	uint64_t sent_us;
	struct timer timer;
	struct pings *all;
};

struct pings {
	struct engine *e;
	void (*report)(void *arg, const struct ping_report *r);
	void *arg;
	struct ping list[PINGS_MAX];
};

static void over(struct ping *p)
{
	struct pings *s = p->all;
	bool any = false;

	p->used = false;
	for (unsigned i = 0; i < PINGS_MAX; i++)
		any |= s->list[i].used;
	data_pinging(s->e, any);
}

/* RFC 8200, 8.1 */
static uint16_t checksum(const uint8_t *packet)
{
	uint32_t sum = 58 + 8 + PAYLOAD;

	for (size_t i = 8; i < PACKET; i += 2)
		sum += be16(packet + i); /* addresses, then the message */
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void send_one(struct ping *p, uint64_t now_us)
{
	uint8_t packet[PACKET] = { 0x60 };

	p->seq++;
	p->waiting = true;
	p->sent_us = now_us;
	put_be16(packet + 4, 8 + PAYLOAD);
	packet[6] = 58;
	packet[7] = 64;
	memcpy(packet + 8, p->all->e->self, 16);
	memcpy(packet + 24, p->peer, 16);
	packet[40] = 128;
	put_be16(packet + 44, p->id);
	put_be16(packet + 46, (uint16_t)p->seq);
	memset(packet + 48, 0x42, PAYLOAD);
	put_be16(packet + 42, checksum(packet));
	pump_inner(p->all->e, packet, sizeof(packet));
}

static void arm(struct ping *p, uint64_t due_us)
{
	if (timer_arm(loop_timers(p->all->e->loop), &p->timer, due_us) != OK)
		over(p);
}

static void tell(struct ping *p, bool lost, uint32_t rtt_us)
{
	struct ping_report r = { .token = p->token,
				 .seq = p->seq,
				 .lost = lost,
				 .last = p->seq >= p->count,
				 .rtt_us = rtt_us,
				 .n_replies = p->n_replies };

	if (r.last) {
		timer_disarm(loop_timers(p->all->e->loop), &p->timer);
		over(p);
	}
	p->all->report(p->all->arg, &r);
}

static void fired(void *arg, uint64_t now_us)
{
	struct ping *p = arg;

	if (p->waiting) {
		p->waiting = false;
		tell(p, true, 0);
		if (!p->used)
			return;
	}
	send_one(p, now_us);
	arm(p, now_us + PATIENCE_US);
}

enum err pings_new(struct engine *e, void (*report)(void *arg, const struct ping_report *r), void *arg,
		   struct pings **ret)
{
	struct pings *s = calloc(1, sizeof(*s));

	if (!s)
		return ERR_NOMEM;
	s->e = e;
	s->report = report;
	s->arg = arg;
	*ret = s;
	return OK;
}

void pings_free(struct pings *s)
{
	for (unsigned i = 0; s && i < PINGS_MAX; i++)
		timer_disarm(loop_timers(s->e->loop), &s->list[i].timer);
	free(s);
}

enum err pings_start(struct pings *s, uint64_t token, const uint8_t peer[16], unsigned count)
{
	struct rng rng = crypto_rng();

	for (unsigned i = 0; i < PINGS_MAX; i++) {
		struct ping *p = &s->list[i];

		if (p->used)
			continue;
		*p = (struct ping){
			.used = true, .token = token, .count = count, .id = (uint16_t)rng_u32(&rng), .all = s
		};
		memcpy(p->peer, peer, 16);
		p->timer.fire = fired;
		p->timer.arg = p;
		data_pinging(s->e, true);
		arm(p, loop_now_us(s->e->loop));
		return p->used ? OK : ERR_NOMEM;
	}
	return ERR_LIMIT;
}

void pings_cancel(struct pings *s, uint64_t token)
{
	for (unsigned i = 0; i < PINGS_MAX; i++)
		if (s->list[i].used && s->list[i].token == token) {
			timer_disarm(loop_timers(s->e->loop), &s->list[i].timer);
			over(&s->list[i]);
		}
}

bool pings_input(struct pings *s, uint64_t now_us, const uint8_t *packet, size_t len)
{
	if (len < PACKET || packet[0] >> 4 != 6 || packet[6] != 58 || packet[40] != 129)
		return false;
	for (unsigned i = 0; i < PINGS_MAX; i++) {
		struct ping *p = &s->list[i];

		if (!p->used || be16(packet + 44) != p->id || memcmp(packet + 8, p->peer, 16))
			continue;
		if (p->waiting && be16(packet + 46) == (uint16_t)p->seq) {
			p->waiting = false;
			p->n_replies++;
			arm(p, p->sent_us + INTERVAL_US);
			tell(p, false, (uint32_t)(now_us - p->sent_us));
		}
		return true; /* late or repeated: taken all the same */
	}
	return false;
}
