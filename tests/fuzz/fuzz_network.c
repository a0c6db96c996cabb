/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Networks between a hostile peer, who has proved his key, and us: calls that we make, where he grants and assigns whatever the input
 * says, and calls that he makes, where he asks for it. The first byte says how we are configured, then come the calls, each of which
 * replaces the one before of its direction. With a kernel that takes ESP, the input also says what it refuses.
 * covers: src/vpn/network.c src/vpn/child.c src/vpn/plane.c src/esp/kernel.c src/esp/kernel_request.c */
#include <stdio.h>

#include "../unit/ike_pair.h"
#include "replay.h"
#include "vpn/impl.h"

#define CALLS 4
#define ACCEPT "accept-prefix = 192.0.2.0/24, 198.51.100.0/24, 2001:db8:1::/64, 2001:db8:2::/64\n"
#define LAN                                                                                                            \
	"[network lan]\nprefix = 192.0.2.0/24, 2001:db8:1::/64\npool = 198.51.100.0/30, 2001:db8:2::/64\n"             \
	"dns = 192.0.2.1\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const unsigned fuzz_replay_cuts = 8;

static struct vpn *v;
static struct call *c;
static struct ike_sa *box;
static struct ike_decision decision;
static struct rd r;
static struct rng rng;
static uint64_t now_us;
static struct path path; /* as the box sees it */
static bool host_yes, bare, accepts;
static unsigned n_there; /* SAs in the kernel */

static int64_t wall(void *arg)
{
	(void)arg;
	return 1800000000;
}

static struct addr_prefix prefix(const char *text)
{
	struct addr_prefix p;

	if (addr_prefix_parse(span_str(text), &p) != OK)
		abort();
	return p;
}

/* ---- what comes out ---- */

static bool in_one_of(const struct addr_prefix *p, const char *const *list)
{
	for (; *list; list++) {
		struct addr_prefix whole = prefix(*list);

		if (addr_prefix_inside(p, &whole))
			return true;
	}
	return false;
}

static void judge(const struct vpn_want *w)
{
	static const char *const accepted[] = { "192.0.2.0/24", "198.51.100.0/24", "2001:db8:1::/64", "2001:db8:2::/64",
						NULL },
				 *const pool[] = { "198.51.100.0/30", "2001:db8:2::/64", NULL };
	const struct vpn_network *n = &w->network;
	const struct addr *const ends[] = { &n->ip4, &n->ip6 };
	struct addr self = addr_of(span_of(v->self, 16), 0), peer = addr_of(span_of(c->peer_address, 16), 0);

	for (int i = 0; i < 2; i++) {
		struct addr_prefix one = { .base = *ends[i], .len = (uint8_t)(addr_ip_len(ends[i]) * 8) };

		if (ends[i]->family != ADDR_NONE &&
		    (w->ours ? accepts && !in_one_of(&one, accepted) : !in_one_of(&one, pool)))
			abort();
	}
	for (unsigned i = 0; w->ours && i < n->n_prefixes; i++)
		if (!config_prefix_sane(&n->prefixes[i]) || (accepts && !in_one_of(&n->prefixes[i], accepted)) ||
		    addr_prefix_has(&n->prefixes[i], &self) || addr_prefix_has(&n->prefixes[i], &peer))
			abort();
	if (w->ours && host_yes && !accepts)
		abort();
}

/* What passes in the kernel is a network that was granted or accepted, for an address that we, or the pool, may have. */
static void judge_pair(const struct esp_kernel_request *rq)
{
	static const char *const servers[] = { "192.0.2.0/24", "198.51.100.0/24", "2001:db8:1::/64", "2001:db8:2::/64",
					       NULL };
	struct addr self = addr_of(span_of(v->self, 16), 0), peer = prefix("fd00::9/128").base;

	if (rq->server.base.family != rq->client.base.family || rq->client.len != addr_ip_len(&rq->client.base) * 8 ||
	    !config_prefix_sane(&rq->server))
		abort();
	if (accepts && !in_one_of(&rq->server, servers))
		abort();
	if (accepts && !in_one_of(&rq->client, servers) && !addr_ip_eq(&rq->client.base, &self) &&
	    !addr_ip_eq(&rq->client.base, &peer))
		abort();
}

static enum err kernel(const struct esp_kernel_request *rq, struct esp_kernel_count *ret)
{
	uint8_t what = rd_left(&r) ? rd_u8(&r) : 0;
	bool fails = what >= 0xe0;

	*ret = (struct esp_kernel_count){ .packets = what, .bytes = (uint64_t)what << 36 };
	if (rq->act <= ESP_KERNEL_PASS)
		judge_pair(rq);
	if (rq->act == ESP_KERNEL_ADD && !fails)
		n_there++;
	if (rq->act == ESP_KERNEL_REMOVE || (rq->act == ESP_KERNEL_MOVE && fails))
		n_there--;
	if (rq->act == ESP_KERNEL_COUNT && fails) {
		n_there--;
		return ERR_NOTFOUND;
	}
	return fails ? ERR_SYSTEM : OK;
}

static bool in_kernel(void)
{
	struct esp_kernel_request rq;
	struct esp_kernel_count count;
	bool any = false;

	for (; vpn_poll_kernel(v, &rq); any = true) {
		enum err e = kernel(&rq, &count);

		vpn_kernel_done(v, now_us, &rq, e, &count);
	}
	return any;
}

/* ---- the two ends ---- */

static void box_event(struct ike_event *e)
{
	if (e->kind == IKE_EV_ASKED || e->kind == IKE_EV_CHILD_ASKED)
		ike_sa_decide(box, now_us, &decision);
	ike_event_done(e);
}

static void our_want(const struct vpn_want *w)
{
	if (w->kind != VPN_WANT_NETWORK_UP)
		return;
	judge(w);
	if (w->ours)
		vpn_network_ready(v, now_us, w->call, w->grant_id, w->network.n_prefixes != 2);
}

static bool from_us(void)
{
	enum vpn_channel channel;
	uint8_t msg[IKE_MSG_MAX];
	struct out o;
	bool any = false;

	while (vpn_poll_output(v, &channel, &o)) {
		any = true;
		if (channel != VPN_IKE)
			continue;
		memcpy(msg, o.bytes.p, o.bytes.len);
		for (unsigned i = 0; bare && i < CALL_HALF_OPEN_MAX; i++)
			if (c->half_open[i] && ike_sa_spi_i(c->half_open[i]) == ike_sa_spi_i(box))
				pair_stock(c->half_open[i], msg, o.bytes.len);
		if (bare && c->sa && c->ike_initiator)
			pair_stock(c->sa, msg, o.bytes.len);
		ike_sa_input(box, now_us, &path, span_of(msg, o.bytes.len));
	}
	return any;
}

static bool from_box(void)
{
	struct path at = { .local = path.remote, .remote = path.local };
	uint8_t msg[IKE_MSG_MAX];
	struct out o;
	bool any = false;

	while (ike_sa_poll_output(box, &o)) {
		memcpy(msg, o.bytes.p, o.bytes.len);
		if (bare)
			pair_stock(box, msg, o.bytes.len);
		vpn_input_ike(v, now_us, &at, span_of(msg, o.bytes.len));
		any = true;
	}
	return any;
}

static void exchange(void)
{
	for (bool more = true; more;) {
		struct vpn_event ve;
		struct vpn_want w;
		struct ike_event e;

		more = from_box();
		for (; vpn_poll_want(v, &w); more = true)
			our_want(&w);
		more |= in_kernel();
		more |= from_us();
		for (; ike_sa_poll_event(box, &e); more = true)
			box_event(&e);
		for (; vpn_poll_event(v, &ve); more = true)
			vpn_event_done(&ve);
	}
}

/* ---- what the input says ---- */

static struct ike_ts selector(void)
{
	static const char *const prefixes[] = { "192.0.2.0/24", "192.0.2.128/25",  "2001:db8:1::/64",
						"0.0.0.0/0",    "198.51.100.7/32", "203.0.113.0/24",
						"127.0.0.0/8",  "fd00::/32",       "2001:db8:2::7/128" };
	uint8_t what = rd_u8(&r), other = rd_u8(&r);
	struct ike_ts t = { .family = ADDR_IP6, .port_hi = 65535 };
	struct addr_prefix p;

	if (what == 0xff) {
		t.family = other & 1 ? ADDR_IP4 : ADDR_IP6;
		rd_bytes(&r, t.ip_lo, t.family == ADDR_IP4 ? 4 : 16);
		rd_bytes(&r, t.ip_hi, t.family == ADDR_IP4 ? 4 : 16);
		return t;
	}
	if (what % 12 >= 9) { /* us, him, everything */
		memcpy(t.ip_lo, what % 12 == 9 ? v->self : c->peer_address, 16);
		memcpy(t.ip_hi, t.ip_lo, 16);
		if (what % 12 == 11) {
			memset(t.ip_lo, 0, 16);
			memset(t.ip_hi, 0xff, 16);
		}
	} else {
		p = prefix(prefixes[what % 12]);
		t.family = p.base.family;
		memcpy(t.ip_lo, p.base.ip, 16);
		memcpy(t.ip_hi, p.base.ip, 16);
		for (size_t bit = p.len; bit < addr_ip_len(&p.base) * 8; bit++)
			t.ip_hi[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	}
	if (other & 0x80) {
		t.protocol = other & 1 ? 6 : 17;
		t.port_lo = t.port_hi = 5900;
	}
	return t;
}

static void selectors(struct ike_ts_list *l)
{
	for (unsigned n = rd_u8(&r) % 5; n; n--)
		l->ts[l->n++] = selector();
}

static struct addr assigned(void)
{
	static const char *const some[] = { "198.51.100.7/32", "2001:db8:2::7/128", "203.0.113.7/32", "127.0.0.1/32",
					    "fd00::9/128" };
	uint8_t what = rd_u8(&r) % 7;

	if (what == 6)
		return addr_of(span_of(v->self, 16), 0);
	return what == 5 ? (struct addr){ .family = ADDR_NONE } : prefix(some[what]).base;
}

static void grants(void)
{
	struct addr a = assigned(), b = assigned();
	uint8_t what = rd_u8(&r);

	decision = (struct ike_decision){ .verdict = what & 0x80 ? IKE_REFUSED : IKE_GRANTED, .request = 7 };
	decision.n_grants = bare ? 0 : what % 3;
	for (unsigned i = 0; i < decision.n_grants; i++)
		decision.grants[i] = (struct ike_grant){ .request = 7,
							 .id = 5 + i,
							 .protocol = what & 8 ? 6 : 0,
							 .port = what & 8 ? 5900 : 0,
							 .name = { 'n', (char)('0' + i) } };
	decision.cp.there = !(what & 0x40);
	decision.cp.ip4 = a.family == ADDR_IP4 ? a : b;
	decision.cp.ip6 = a.family == ADDR_IP6 ? a : b;
	decision.cp.dns[decision.cp.n_dns++] = prefix("192.0.2.1/32").base;
	selectors(&decision.ts_local);
	selectors(&decision.ts_peer);
}

static struct ike_config side(int own, int other, bool initiator, const char *local, const char *remote)
{
	struct ike_config k = { .rng = &rng, .initiator = initiator, .identity = pair_ids[own], .bare = bare };

	pair_expect(&k, pair_ids[other]);
	(void)snprintf(k.local_aor, sizeof(k.local_aor), "%s@example.com", local);
	(void)snprintf(k.peer_aor, sizeof(k.peer_aor), "%s@example.com", remote);
	k.has_binding = k.has_peer_key = !bare;
	k.request = bare ? 0 : 7;
	return k;
}

static bool spi_taken(void *arg, uint32_t spi)
{
	const struct call *ours = arg;

	return !esp_set_spi_fits(v->esp, ours->id, ours->in_kernel, spi);
}

static void one_call(bool outgoing)
{
	static const char *const names[] = { "lan", "desktop", "attic" };
	struct ike_config box_cfg = side(ALICE, BOB, !outgoing, "alice", "bob");
	uint8_t what;

	c = vpn_call_new(v, now_us, 0, outgoing);
	if (!c)
		return;
	c->bare = bare;
	c->no_ice = true;
	(void)snprintf(c->peer, sizeof(c->peer), "sip:alice@example.com");
	c->peer_address[0] = 0xfd;
	c->peer_address[15] = 9;
	c->fixed = c->path = (struct path){ .local = path.remote, .remote = path.local };
	c->state = CALL_CONNECTING;
	c->request = 7;
	c->ike_initiator = outgoing;
	c->level = LEVEL_PINNED;
	c->ike_cfg = malloc(sizeof(*c->ike_cfg));
	if (!c->ike_cfg)
		abort();
	*c->ike_cfg = side(BOB, ALICE, outgoing, "bob", "alice");
	c->ike_cfg->spi_taken = spi_taken;
	c->ike_cfg->spi_arg = c;
	if (outgoing) {
		grant_propose_all(v, c, &c->ike_cfg->tsi, &c->ike_cfg->tsr);
		network_propose(v, c, &c->ike_cfg->tsi, &c->ike_cfg->tsr);
		c->ike_cfg->cp_asks = network_asks(v, c);
		grants();
	} else {
		what = rd_u8(&r);
		box_cfg.cp_asks = rd_u16(&r);
		box_cfg.n_names = bare ? 0 : what % 4;
		for (unsigned i = 0; i < box_cfg.n_names; i++)
			(void)snprintf(box_cfg.names[i], sizeof(box_cfg.names[i]), "%s", names[i]);
		selectors(&box_cfg.tsi);
		selectors(&box_cfg.tsr);
	}
	if (ike_sa_new(&box_cfg, &box) != OK)
		abort();
	if (outgoing && (ike_sa_new(c->ike_cfg, &c->sa) != OK || ike_sa_start(c->sa, now_us, &c->path) != OK))
		abort();
	if (!outgoing && ike_sa_start(box, now_us, &path) != OK)
		abort();
	exchange();
	if (box->n_children && rd_u8(&r) & 1)
		(void)!ike_sa_child_rekey(box, now_us, box->children[0].spi_in);
	else if (box->n_children)
		(void)!ike_sa_child_delete(box, now_us, box->children[0].spi_in);
	exchange();
	for (unsigned n = esp_set_has_kernel(v->esp) ? rd_u8(&r) % 4 : 0; n; n--) {
		now_us += SECONDS(2);
		vpn_tick(v, now_us);
		exchange();
	}
	ike_sa_free(box);
}

static void configure(uint8_t how)
{
	static const char *const sections[] = { "bare = yes\nice = no\naddress = fd00::9\n", "" };
	char text[2048], key[KEY_TEXT];
	struct vpn_env env = { .rng = &rng, .wall_s = wall };
	struct conf_error e = { .text = "" };
	uint8_t hash[32];
	struct config *cfg;
	struct trust *trust;

	bare = how & 1;
	host_yes = how & 2;
	accepts = how & 4;
	if (bare ? hash_of(HASH_SHA256, identity_cert(pair_ids[ALICE]), hash) != OK
		 : spki_hash(identity_spki(pair_ids[ALICE]), hash) != OK)
		abort();
	(void)snprintf(text, sizeof(text),
		       "[account]\naor = bob@example.com\nserver = 192.0.2.1;transport=udp\npassword = p\n[daemon]\n"
		       "host = %s\n[service desktop]\nlisten = tcp/5900\n%s[peer alice@example.com]\n%s = %s\n%s%s%s",
		       host_yes ? "yes" : "no", host_yes ? LAN : "", bare ? "cert" : "key", key_text(hash, key),
		       sections[!bare], accepts ? ACCEPT : "",
		       host_yes ? "allow = desktop, lan\n" : "allow = desktop\n");
	if (config_parse("f", span_str(text), &cfg, &e) != OK || trust_new(&trust) != OK ||
	    trust_load(trust, "pins", SPAN_NONE, cfg, &e) != OK || vpn_new(&env, cfg, trust, pair_ids[BOB], &v) != OK ||
	    (how & 8 && vpn_kernel_begin(v) != OK))
		abort();
	n_there = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rng_seeded seed;

	pair_identities();
	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1000);
	path = (struct path){ .local = addr_ip4(0xcb007101, 4500), .remote = addr_ip4(0xcb007102, 4500) };
	r = rd_of(span_of(data, size));
	configure(rd_u8(&r));
	for (unsigned i = 0; i < CALLS && rd_left(&r); i++)
		one_call(rd_u8(&r) & 1);
	vpn_hangup_all(v, now_us);
	for (r = rd_of(SPAN_NONE); in_kernel();)
		;
	if (n_there)
		abort();
	vpn_free(v);
	return 0;
}
