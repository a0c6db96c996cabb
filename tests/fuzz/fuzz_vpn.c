/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A call between two daemons whose every message passes a hostile path, which changes, drops, repeats and adds. The first byte says
 * how far the call has come when the path becomes hostile, then come steps.
 * covers: src/vpn/call.c src/vpn/describe.c src/vpn/grant.c src/vpn/inforce.c src/vpn/policy.c src/vpn/reason.c src/vpn/replay.c
   src/vpn/status.c src/vpn/tunnel.c src/vpn/vpn.c src/vpn/input.c src/vpn/forward.c src/vpn/move.c src/vpn/mtu.c src/esp/pmtu.c src/ice/probe.c */
#include "replay.h"
#include "vpn_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const unsigned fuzz_replay_cuts = 8;

enum step { TIME, RULE, OWNER, INJECT, INNER, N_STEPS };
/* What a rule does to the message that it waits for. */
enum change { XOR, CUT, DROP, TWICE, LINE_AWAY, LINE_TWICE, LINE_NEW, N_CHANGES };
#define RULES_MAX 8
#define STEPS_MAX 16
#define RULE_TEXT 255

struct rule {
	bool armed, to_bob;
	enum on_wire kind;
	enum change change;
	unsigned skip; /* messages of its kind that pass before */
	uint16_t at;
	uint8_t with;
	struct span text;
};
static struct rule rules[RULES_MAX];
static unsigned n_rules;
static bool calm; /* the end: nothing is changed any more */

/* ---- the path ---- */

static size_t body_of(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 4 <= len; i++)
		if (!memcmp(p + i, "\r\n\r\n", 4))
			return i + 4;
	return len;
}

/* Content-Length follows the body, so that it is the description that is wrong and not the message. */
static void length_follows(uint8_t *p, size_t *len, size_t cap)
{
	static const char name[] = "\r\nContent-Length:";
	static uint8_t mem[70000];
	size_t body = body_of(p, *len), at = 0, end;
	struct wr w = wr_of(mem, sizeof(mem));

	while (at + sizeof(name) - 1 < body && memcmp(p + at, name, sizeof(name) - 1) != 0)
		at++;
	end = at + 2;
	while (end < body && p[end] != '\r')
		end++;
	if (end >= body)
		return;
	wr_bytes(&w, p, at);
	wr_fmt(&w, "%s %zu", name, *len - body);
	wr_bytes(&w, p + end, *len - end);
	if (w.bad || w.len > cap)
		return;
	memcpy(p, mem, w.len);
	*len = w.len;
}

/* The at-th line of the body goes, comes twice, or has another before it. */
static void change_line(const struct rule *r, uint8_t *p, size_t *len, size_t cap)
{
	size_t from = body_of(p, *len), to;
	struct span add = r->text;

	for (unsigned n = r->at % 32; n && from < *len; from++)
		n -= p[from] == '\n';
	to = from;
	while (to < *len && p[to] != '\n')
		to++;
	to += to < *len;
	if (r->change == LINE_AWAY) {
		memmove(p + from, p + to, *len - to);
		*len -= to - from;
		return;
	}
	if (r->change == LINE_TWICE)
		add = span_of(p + from, to - from);
	if (!add.len || *len + add.len > cap)
		return;
	memmove(p + from + add.len, p + from, *len - from);
	memmove(p + from, r->change == LINE_TWICE ? p + from + add.len : add.p, add.len);
	*len += add.len;
}

static bool apply(const struct rule *r, uint8_t *p, size_t *len, size_t cap)
{
	size_t from = 0;

	switch (r->change) {
	case XOR:
		if (r->kind == WIRE_SIP && r->with & 1)
			from = body_of(p, *len) % (*len + 1);
		if (from < *len)
			p[from + r->at % (*len - from)] ^= r->with ? r->with : 1;
		break;
	case CUT: *len = *len ? r->at % *len : 0; break;
	case DROP: return false;
	case TWICE: break;
	default:
		if (r->kind == WIRE_SIP) {
			change_line(r, p, len, cap);
			length_follows(p, len, cap);
		}
		break;
	}
	return true;
}

static bool tamper(enum on_wire kind, bool to_bob, uint8_t *p, size_t *len, size_t cap)
{
	for (unsigned i = 0; i < n_rules && !calm; i++) {
		struct rule *r = &rules[i];

		if (!r->armed || r->kind != kind || r->to_bob != to_bob)
			continue;
		if (r->skip) {
			r->skip--;
			continue;
		}
		r->armed = false;
		if (r->change == TWICE && n_wire < WIRE_MAX - 1 && n_wire) {
			/* what is on the wire last comes again, 40 ms later */
			struct datagram d = wire[n_wire - 1];

			if (d.stream_failed || !(d.p = malloc(d.len + 1)))
				return true;
			memcpy(d.p, wire[n_wire - 1].p, d.len);
			d.due_us += MS(40);
			wire[n_wire++] = d;
		}
		return apply(r, p, len, cap);
	}
	return true;
}

/* ---- steps ---- */

static void rule(struct rd *in)
{
	uint8_t what = rd_u8(in), how = rd_u8(in);
	struct rule r = {
		.armed = true, .kind = (enum on_wire)(what % WIRE_OTHER), .to_bob = what & 0x80, .skip = (what >> 2) % 8
	};
	size_t n;

	r.change = (enum change)(how % N_CHANGES);
	r.at = rd_u16(in);
	r.with = rd_u8(in);
	if (r.change == LINE_NEW) {
		n = r.with < rd_left(in) ? r.with : rd_left(in);
		r.text = rd_span(in, n);
	}
	if (n_rules < RULES_MAX)
		rules[n_rules++] = r;
}

/* What `status` shows of a side. */
static void status(const struct side *s, const struct side *other)
{
	struct vpn_account_status a;
	struct vpn_call_status c;
	unsigned at = 0;

	if (!vpn_account_status(s->vpn, 0, &a) || memcmp(a.key, s->key, SPKI_HASH) != 0)
		abort();
	while (vpn_call_status(s->vpn, &at, &c))
		if (!c.state || c.n_services > CFG_ALLOW_MAX ||
		    (c.n_services && memcmp(c.key, other->key, SPKI_HASH) != 0))
			abort();
	(void)vpn_call_of_peer(s->vpn, other->self);
}

static void owner(struct rd *in)
{
	uint8_t what = rd_u8(in);
	int k = what >> 7;
	struct side *s = &sides[k];
	struct vpn_call_request rq = { .to = k ? "a@e" : "b@e",
				       .service = what & 0x20   ? "desktop"
						  : what & 0x40 ? "none"
								: NULL,
				       .owner = 1 };
	struct addr local = at_port(&s->ip, 4500), more[2] = { local, addr_ip4(0x0a000101u + (uint32_t)k, 4500) };
	struct trust *trust;
	struct config *cfg;

	switch (what % 8) {
	case 0: (void)!vpn_call(s->vpn, now_us, &rq, &s->call); break;
	case 1: (void)!vpn_hangup(s->vpn, now_us, s->call); break;
	case 2: (void)!vpn_forward(s->vpn, now_us, s->call, 6, NULL, SERVICE_PORT, 0); break;
	case 3: (void)!vpn_forward(s->vpn, now_us, s->call, 17, NULL, 7777, 0); break;
	case 4: vpn_set_locals(s->vpn, now_us, what & 0x10 ? more : &local, what & 0x10 ? 2 : 1); break;
	case 5: (void)!vpn_trust_changed(s->vpn, now_us); break;
	case 6:
		load(k, !(what & 0x10), !(what & 0x08), &cfg, &trust);
		if (vpn_reload(s->vpn, now_us, cfg, trust) != OK)
			abort();
		break;
	default: status(s, &sides[!k]); break;
	}
	drain(s);
}

/* A datagram of the attacker, from his own address or the other side's. */
static void inject(struct rd *in)
{
	uint8_t what = rd_u8(in), len = rd_u8(in);
	const struct side *to = &sides[what >> 7], *other = &sides[!(what >> 7)];
	struct addr stranger = addr_ip4(0xc6336401, 4500), from = what & 1 ? at_port(&other->ip, 4500) : stranger;
	struct addr dst = at_port(&to->ip, what & 2 ? 6000 : 4500);
	struct span s = rd_span(in, len < rd_left(in) ? len : rd_left(in));

	if (what & 2)
		from = exchange_addr(5060);
	post(&from, &dst, s);
}

/* A program at one end sends into the tunnel. */
static void send_inner(struct rd *in)
{
	uint8_t what = rd_u8(in), packet[60] = { 0x60, 0, 0, 0, 0, 20, what & 4 ? 17 : what & 8 ? 58 : 6, 64 };
	struct esp_packet p = { .p = packet, .len = sizeof(packet) }, out[ESP_BATCH_OUT];
	struct side *s = &sides[what >> 7];
	unsigned n;

	memcpy(packet + 8, s->self, 16);
	memcpy(packet + 24, sides[!(what >> 7)].self, 16);
	put_be16(packet + 40, what & 1 ? SERVICE_PORT : 40001);
	put_be16(packet + 42, what & 2 ? SERVICE_PORT : 40001);
	if (packet[6] == 58)
		packet[40] = what & 1 ? 128 : 129;
	packet[52] = 5 << 4;
	packet[53] = what & 0x10 ? 2 : 0x10;
	n = vpn_input_inner(s->vpn, now_us, &p, 1, out);
	for (unsigned i = 0; i < n; i++)
		post(&out[i].path.local, &out[i].path.remote, span_of(out[i].p, out[i].len));
	drain(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd in = rd_of(span_of(data, size));
	struct rd call = rd_of(SPAN_LIT("\0"));
	uint8_t start = rd_u8(&in);

	n_rules = 0;
	calm = false;
	world_init();
	if (start) {
		pass(SECONDS(1)); /* both are registered */
		owner(&call);
		pass((uint64_t)(start - 1) * MS(5));
	}
	for (unsigned n = 0; n < STEPS_MAX && rd_left(&in); n++)
		switch (rd_u8(&in) % N_STEPS) {
		case TIME: pass((uint64_t)rd_u8(&in) * MS(5)); break;
		case RULE: rule(&in); break;
		case OWNER: owner(&in); break;
		case INJECT: inject(&in); break;
		default: send_inner(&in); break;
		}
	pass(SECONDS(3));
	calm = true;
	world_done();
	return 0;
}
