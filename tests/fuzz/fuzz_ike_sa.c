/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A running SA, in the state that the first byte names, is fed datagrams and time. Bytes of a step become a
 * whole message, or the content of an Encrypted payload under the right keys, so that what stands behind the
 * keys is reached.
 * covers: src/ike/sa.c src/ike/sa_run.c src/ike/sa_init.c src/ike/sa_auth.c src/ike/child.c src/ike/child_ask.c src/ike/info.c
   src/ike/grant.c src/ike/mobike.c src/ike/nat.c src/ike/fragment.c src/ike/sa_fragment.c src/ike/psk.c src/ike/window.c src/ike/auth.c src/ike/keys.c src/ike/write.c */
#include "../unit/ike_pair.h"
#include "replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const unsigned fuzz_replay_cuts = 32;

/* One step of the input: what, which side gets it, two bytes of length, the bytes. */
enum step { RAW, INSIDE_REQUEST, INSIDE_RESPONSE, TIME, OWNER, N_STEPS };

/* By other addresses than in the beginning: bit of a step. */
#define ELSEWHERE 0x40

static struct path path_of(const struct pair *p, int to, bool elsewhere)
{
	struct path path = p->path[to];

	path.remote.port = elsewhere ? 4777 : path.remote.port;
	return path;
}

static enum ike_place where; /* bob's answer to whether alice may move */

static enum ike_place place(void *arg, const struct path *path)
{
	(void)arg;
	(void)path;
	return where;
}

static const uint64_t stops_us[] = { 0, FLIGHT_US, 2 * FLIGHT_US, 3 * FLIGHT_US, SECONDS(1) };

/* The peer of `to` writes it: first byte exchange, second the first inner payload's type, then the payloads. With the first bit
 * of the exchange set it is a fragment: a byte of total and number follows. */
static void inside(struct pair *p, int to, bool elsewhere, bool is_response, struct span s)
{
	struct path path = path_of(p, to, elsewhere);
	struct ike_sa *from = p->sa[!to];
	struct ike_header h;
	struct ike_build b;
	struct span msg;
	uint8_t mem[IKE_MSG_MAX];

	if (s.len < 2 || !from->keys.out.cipher)
		return;
	h = ike_header_of(from, (uint8_t)(IKE_SA_INIT + s.p[0] % 4), is_response,
			  is_response ? p->sa[to]->window.next_out - 1 : p->sa[to]->window.next_in);
	ike_build_start(&b, mem, sizeof(mem), &h);
	if (s.p[0] & 0x80 && s.len > 2) {
		ike_build_skf(&b, s.p[2] & 15, s.p[2] >> 4);
		mem[IKE_HDR] = s.p[1];
		wr_span(&b.w, span_from(s, 3));
	} else {
		ike_build_sk(&b);
		mem[IKE_HDR] = s.p[1];
		wr_span(&b.w, span_from(s, 2));
	}
	if (ike_build_seal(&b, &from->keys.out, &msg) == OK)
		ike_sa_input(p->sa[to], p->now_us, &path, msg);
}

/* A call of the owner. */
static void owner(struct pair *p, int side, bool elsewhere, struct span s)
{
	struct path path = path_of(p, side, elsewhere);
	struct ike_sa *sa = p->sa[side];

	if (s.len && s.p[0] >= 0xf0) {
		(void)ike_sa_move(sa, p->now_us, &path, s.p[0] & 1);
		return;
	}
	switch (s.len ? s.p[0] % 6 : 0) {
	case 0: ike_sa_probe(sa, p->now_us); break;
	case 1:
		(void)!ike_sa_child_create(sa, p->now_us, 7, (uint32_t)s.len, &p->cfg[ALICE].tsi, &p->cfg[ALICE].tsr);
		break;
	case 2: (void)!ike_sa_child_delete(sa, p->now_us, p->children[side][0].spi_in); break;
	case 3: (void)!ike_sa_grant_later(sa, p->now_us, &p->decision); break;
	case 4: ike_sa_delete(sa, p->now_us); break;
	default:
		p->decision.verdict = (enum ike_verdict)(s.len % 4);
		p->child_decision.verdict = (enum ike_verdict)(s.len % 3);
		break;
	}
}

/* Whatever happened: what both hold to be up was agreed on, and nothing is up at a dead one. */
static void check(const struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		const struct ike_sa *sa = p->sa[i];

		if (sa->n_children > IKE_CHILDREN_ALL ||
		    (sa->state == IKE_DEAD && (sa->n_children || sa->keys.out.cipher)))
			abort();
		if (sa->state >= IKE_UP && sa->state < IKE_DEAD && sa->setup)
			abort();
		for (unsigned j = 0; j < sa->n_children; j++)
			if (sa->children[j].spi_in < IKE_ESP_SPI_OURS)
				abort();
		/* only who agreed on it moves, and the responder to no place that its owner does not want */
		if (p->n_events[i][IKE_EV_MOVED] && (!sa->move.on || (i == BOB && where == IKE_PLACE_NO)))
			abort();
	}
	/* nobody can make alice believe in a peer but by bob's key */
	if (p->n_events[ALICE][IKE_EV_AUTHENTICATED] > 1 || p->n_events[BOB][IKE_EV_AUTHENTICATED] > 1)
		abort();
}

/* Stock peers that share a PSK and a PPK. */
static void secrets(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		p->cfg[i].bare = p->stock[i] = true;
		p->cfg[i].has_binding = p->cfg[i].has_peer_key = false;
		p->cfg[i].n_fingerprints = 0;
		p->cfg[i].psk.len = p->cfg[i].ppk.len = 32;
		memcpy(p->cfg[i].ppk_id, "house", 6);
		p->cfg[i].initial_contact = true;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pair p;
	struct rd r = rd_of(span_of(data, size));
	uint8_t start = rd_u8(&r);

	pair_init(&p, 1);
	p.undecided = start & 0x80;
	where = (enum ike_place)(start / 5 % 3);
	p.cfg[BOB].place = place;
	p.cfg[ALICE].dpd_s = 30;
	if (start & 0x20)
		secrets(&p);
	if (start & 0x10) { /* an address is asked for, and assigned */
		p.cfg[ALICE].cp_asks = IKE_CP_BIT(IKE_CP_IP4_ADDRESS) | IKE_CP_BIT(IKE_CP_IP6_ADDRESS);
		p.decision.cp = p.child_decision.cp =
			(struct ike_cp){ .there = true, .ip4 = addr_ip4(0xc0000209, 0), .ip4_len = 24 };
	}
	if (pair_new(&p) != OK)
		abort();
	if ((start & 0x40) == 0 && ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]) != OK)
		abort();
	pair_for(&p, stops_us[start % 5]);
	for (unsigned n = 0; n < 8 && rd_left(&r); n++) {
		uint8_t what = rd_u8(&r);
		int to = what >> 7;
		size_t len = rd_u16(&r);
		struct span s = rd_span(&r, len < rd_left(&r) ? len : rd_left(&r));
		bool elsewhere = what & ELSEWHERE;
		struct path path = path_of(&p, to, elsewhere);

		switch ((what & 0x7f) % N_STEPS) {
		case RAW: ike_sa_input(p.sa[to], p.now_us, &path, s); break;
		case INSIDE_REQUEST: inside(&p, to, elsewhere, false, s); break;
		case INSIDE_RESPONSE: inside(&p, to, elsewhere, true, s); break;
		case OWNER: owner(&p, to, elsewhere, s); break;
		default: pair_for(&p, s.len ? (uint64_t)s.p[0] * MS(200) : MS(5)); break;
		}
		pair_events(&p);
		pair_outputs(&p);
		check(&p);
	}
	pair_for(&p, SECONDS(40));
	check(&p);
	pair_done(&p);
	return 0;
}
