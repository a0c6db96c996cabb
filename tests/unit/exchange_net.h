/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/exchange_net.h - one exchange in virtual time, and around it devices: real user agents, or hand-written peers whose
 * messages the test sees as text. Device k has the address 10.0.k.1 and reaches the exchange by datagrams or streams.
 * Include after <cmocka.h>. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/timers.h"
#include "crypto/secret.h"
#include "exchange/exchange.h"
#include "sip/digest.h"
#include "sip/ua.h"

#define NET_DEVICES 6
#define NET_WIRE 2048
#define NET_DELAY_US MS(10)
#define NET_INBOX 256
#define NET_WALL 1795467600 /* Mon, 23 Nov 2026 21:00:00 GMT */

struct net_device {
	struct sip_ua *ua; /* NULL: a hand-written peer */
	unsigned account;
	struct addr local;
	unsigned n[SIP_CALL_ENDED + 1]; /* events by kind */
	struct sip_event last[SIP_CALL_ENDED + 1];
	uint64_t at[SIP_CALL_ENDED + 1]; /* when the last of each kind came */
	char body[64], reason[128], from[64];
	char *inbox[NET_INBOX]; /* what a hand-written peer got, oldest first */
	uint64_t inbox_at[NET_INBOX];
	unsigned n_inbox, n_closed;
	bool cut; /* nothing gets to it or from it */
};

struct net_piece {
	uint64_t due_us;
	int to; /* device, -1: the exchange */
	struct path path;
	bool is_event;
	enum stream_event ev;
	uint8_t *p;
	size_t len;
};

static struct net_device dev[NET_DEVICES];
static struct net_piece net_wire[NET_WIRE];
static unsigned net_n_wire, net_loss;
static uint64_t now_us;
static struct rng_seeded net_seed;
static struct rng net_rng;
static struct exchange_config *net_cfg;
static struct exchange *net_x;
static struct addr net_server;

static inline int64_t net_wall(void *arg)
{
	(void)arg;
	return NET_WALL + (int64_t)(now_us / 1000000);
}

static const char net_conf[] = "[exchange]\ndomain = example.net\nlisten = 203.0.113.1:5060\n"
			       "[user a]\npassword = k3Zq9vT1xB7nR5mW2cY8La\n"
			       "[user b]\npassword = k3Zq9vT1xB7nR5mW2cY8Lb\n"
			       "[user c]\npassword = k3Zq9vT1xB7nR5mW2cY8Lc\n"
			       "[user d]\npassword = k3Zq9vT1xB7nR5mW2cY8Ld\n";

static inline const char *net_password(const char *user)
{
	static char text[64];

	(void)snprintf(text, sizeof(text), "k3Zq9vT1xB7nR5mW2cY8L%s", user);
	return text;
}

/* ---- the wire ---- */

static inline void net_post(int to, const struct path *path, struct span bytes)
{
	struct net_piece *p;

	if (path->transport == TRANSPORT_UDP && rng_below(&net_rng, 100) < net_loss)
		return;
	assert_true(net_n_wire < NET_WIRE);
	p = &net_wire[net_n_wire++];
	*p = (struct net_piece){
		.due_us = now_us + NET_DELAY_US, .to = to, .path = *path, .p = malloc(bytes.len + 1), .len = bytes.len
	};
	assert_non_null(p->p);
	if (bytes.len)
		memcpy(p->p, bytes.p, bytes.len);
	p->p[bytes.len] = 0;
}

static inline void net_post_event(int to, const struct path *path, enum stream_event ev)
{
	assert_true(net_n_wire < NET_WIRE);
	net_wire[net_n_wire++] = (struct net_piece){
		.due_us = now_us + NET_DELAY_US, .to = to, .path = *path, .is_event = true, .ev = ev
	};
}

/* How the exchange sees what device k sends. Its streams are numbered 1000 * (k + 1) + n there, n here. */
static inline struct path net_at_exchange(int k, const struct path *p)
{
	struct path path = *p;

	path.local = net_server;
	path.remote = dev[k].local;
	if (p->transport != TRANSPORT_UDP) {
		path.stream = 1000u * ((unsigned)k + 1) + p->stream;
		path.remote.port = (uint16_t)(40000 + p->stream);
	} else if (p->local.port) {
		path.remote.port = p->local.port;
	}
	return path;
}

static inline struct path net_udp(int k)
{
	return (struct path){ .transport = TRANSPORT_UDP, .local = dev[k].local, .remote = net_server };
}

static inline struct path net_tcp(int k, uint64_t n)
{
	struct path p = { .transport = TRANSPORT_TCP, .local = dev[k].local, .remote = net_server, .stream = n };

	p.local.port = (uint16_t)(40000 + n);
	return p;
}

static inline void net_drain_ua(int k)
{
	struct net_device *d = &dev[k];
	struct sip_event e;
	struct out o;

	while (sip_ua_poll_output(d->ua, &o)) {
		struct path there = net_at_exchange(k, &o.path), here = o.path;

		if (d->cut)
			continue;
		if (o.kind == OUT_OPEN) {
			here.local = dev[k].local;
			here.local.port = there.remote.port;
			net_post_event(k, &here, STREAM_OPEN);
			net_post_event(-1, &there, STREAM_OPEN);
		} else if (o.kind == OUT_CLOSE) {
			net_post_event(-1, &there, STREAM_CLOSED);
		} else {
			net_post(-1, &there, o.bytes);
		}
	}
	while (sip_ua_poll_event(d->ua, &e)) {
		d->n[e.kind]++;
		d->last[e.kind] = e;
		d->at[e.kind] = now_us;
		(void)snprintf(d->reason, sizeof(d->reason), "%s", e.reason);
		(void)snprintf(d->body, sizeof(d->body), "%.*s", (int)e.body.len, (const char *)e.body.p);
		(void)snprintf(d->from, sizeof(d->from), "%.*s", (int)e.from.len, (const char *)e.from.p);
	}
}

static inline void net_drain(void)
{
	struct out o;

	while (net_x && exchange_poll_output(net_x, &o)) {
		int k = o.path.remote.ip[2];
		struct path path = o.path;

		assert_true(o.path.remote.ip[0] == 10 && k < NET_DEVICES);
		path.local = o.path.remote;
		path.remote = o.path.local;
		path.stream = o.path.transport == TRANSPORT_UDP ? 0 : o.path.stream % 1000;
		if (dev[k].cut)
			continue;
		if (o.kind == OUT_SEND)
			net_post(k, &path, o.bytes);
		else
			net_post_event(k, &path, STREAM_CLOSED);
	}
	for (int k = 0; k < NET_DEVICES; k++)
		if (dev[k].ua)
			net_drain_ua(k);
}

static inline void net_deliver(struct net_piece *p)
{
	struct net_device *d = p->to >= 0 ? &dev[p->to] : NULL;

	if (!d && p->is_event) {
		exchange_stream(net_x, now_us, &p->path, p->ev);
	} else if (!d) {
		exchange_input(net_x, now_us, &p->path, span_of(p->p, p->len));
	} else if (d->ua && p->is_event) {
		sip_ua_stream(d->ua, now_us, &p->path, p->ev);
	} else if (d->ua) {
		sip_ua_input(d->ua, now_us, &p->path, span_of(p->p, p->len));
	} else if (p->is_event) {
		d->n_closed += p->ev == STREAM_CLOSED;
	} else {
		assert_true(d->n_inbox < NET_INBOX);
		d->inbox_at[d->n_inbox] = now_us;
		d->inbox[d->n_inbox++] = (char *)p->p;
		p->p = NULL;
	}
	free(p->p);
}

static inline void net_run(uint64_t for_us)
{
	uint64_t until = now_us + for_us;

	net_drain();
	for (;;) {
		uint64_t due = until + 1;
		unsigned first = NET_WIRE;

		for (unsigned i = 0; i < net_n_wire; i++)
			if (net_wire[i].due_us < due) {
				due = net_wire[i].due_us;
				first = i;
			}
		if (net_x && exchange_deadline_us(net_x) < due) {
			due = exchange_deadline_us(net_x);
			first = NET_WIRE;
		}
		for (int k = 0; k < NET_DEVICES; k++)
			if (dev[k].ua && sip_ua_deadline_us(dev[k].ua) < due) {
				due = sip_ua_deadline_us(dev[k].ua);
				first = NET_WIRE;
			}
		if (due > until) {
			now_us = until;
			return;
		}
		if (due > now_us)
			now_us = due;
		if (first != NET_WIRE) {
			struct net_piece p = net_wire[first];

			memmove(net_wire + first, net_wire + first + 1, (--net_n_wire - first) * sizeof(net_wire[0]));
			net_deliver(&p);
		}
		if (net_x)
			exchange_tick(net_x, now_us);
		for (int k = 0; k < NET_DEVICES; k++)
			if (dev[k].ua)
				sip_ua_tick(dev[k].ua, now_us);
		net_drain();
	}
}

/* ---- begin and end ---- */

static inline void net_exchange_start(void)
{
	struct exchange_env env = { .rng = &net_rng, .wall_s = net_wall };

	assert_int_equal(exchange_new(&env, net_cfg, &net_x), OK);
}

static inline void net_begin(void)
{
	struct conf_error e = { .text = "" };

	memset(dev, 0, sizeof(dev));
	net_n_wire = net_loss = 0;
	now_us = SECONDS(1);
	net_rng = rng_seeded_init(&net_seed, 3);
	net_server = addr_ip4(0xcb007101, 5060);
	for (unsigned k = 0; k < NET_DEVICES; k++)
		dev[k].local = addr_ip4(0x0a000001u + (k << 8), 6000);
	if (exchange_config_parse("test.conf", span_str(net_conf), &net_cfg, &e) != OK)
		fail_msg("%s", e.text);
	net_exchange_start();
}

static inline void net_forget_inbox(int k)
{
	while (dev[k].n_inbox)
		free(dev[k].inbox[--dev[k].n_inbox]);
}

static inline void net_end(void)
{
	for (int k = 0; k < NET_DEVICES; k++) {
		sip_ua_free(dev[k].ua);
		net_forget_inbox(k);
	}
	for (unsigned i = 0; i < net_n_wire; i++)
		free(net_wire[i].p);
	exchange_free(net_x);
	exchange_config_free(net_cfg);
	net_x = NULL;
}

/* ---- user agents ---- */

static inline void net_ua(int k, const char *user, enum transport t)
{
	struct sip_ua_config cfg = { .rng = &net_rng, .max_calls = 4 };
	char aor[64];
	struct sip_account_config acc = { .aor = aor,
					  .user = user,
					  .password = net_password(user),
					  .server = net_server,
					  .transport = t,
					  .insecure_digest = true };

	(void)snprintf(aor, sizeof(aor), "sip:%s@example.net", user);
	assert_int_equal(sip_ua_new(&cfg, &dev[k].ua), OK);
	assert_int_equal(sip_ua_account_add(dev[k].ua, now_us, &acc, &dev[k].local, &dev[k].account), OK);
	net_run(MS(500));
}

static inline unsigned net_dial(int k, const char *to, struct span offer)
{
	unsigned call = 0;

	assert_int_equal(sip_ua_invite(dev[k].ua, now_us, dev[k].account, to, offer, &call), OK);
	net_run(MS(500));
	return call;
}

static inline struct exchange_stats net_stats(void)
{
	struct exchange_stats s;

	exchange_stats(net_x, &s);
	return s;
}

/* ---- hand-written peers ---- */

static struct sip_msg net_msg;

/* Sends text as device k; each line end becomes CRLF. */
static inline void net_say(int k, const struct path *p, const char *text)
{
	static char mem[SIP_MSG_MAX * 2];
	struct path there = net_at_exchange(k, p);
	struct wr w = wr_of(mem, sizeof(mem));

	for (; *text; text++) {
		if (*text == '\n')
			wr_u8(&w, '\r');
		wr_u8(&w, (uint8_t)*text);
	}
	assert_false(w.bad);
	net_post(-1, &there, wr_done(&w));
	net_run(2 * NET_DELAY_US);
}

/* The newest message that device k got, parsed into net_msg; fails where there is none. */
static inline const char *net_newest(int k)
{
	const char *why;
	unsigned status;

	assert_true(dev[k].n_inbox > 0);
	assert_int_equal(sip_parse(span_str(dev[k].inbox[dev[k].n_inbox - 1]), &net_msg, &why, &status), OK);
	return dev[k].inbox[dev[k].n_inbox - 1];
}

static inline unsigned net_status(int k)
{
	(void)net_newest(k);
	return net_msg.status;
}

/* An (Proxy-)Authorization line for the challenge that device k got last, or "". */
static inline const char *net_credentials(int k, const char *user, const char *password, const char *method,
					  const char *uri, enum hash_alg hash)
{
	static char text[1024];
	struct wr w = wr_of(text, sizeof(text));
	struct sip_challenge c;
	enum sip_h h;
	bool proxy;

	(void)net_newest(k);
	proxy = net_msg.status == 407;
	h = proxy ? H_PROXY_AUTHENTICATE : H_WWW_AUTHENTICATE;
	assert_int_equal(sip_challenge_best(&net_msg, h, &c), OK);
	c.hash = hash; /* both challenges have the same nonce */
	wr_str(&w, proxy ? "Proxy-Authorization: " : "Authorization: ");
	assert_int_equal(sip_digest_answer(&c, user, password, method, span_str(uri), 1, "cnonce", &w), OK);
	wr_str(&w, "\n");
	wr_u8(&w, 0);
	assert_false(w.bad);
	return text;
}

/* A REGISTER by hand: extra are header lines, Contact and Expires among them. Returns the final status. */
static unsigned net_cseq;
static inline unsigned net_register(int k, const struct path *p, const char *user, const char *password,
				    const char *extra)
{
	char text[4096];
	const char *credentials = "";

	for (unsigned i = 0; i < 2; i++) {
		net_cseq++;
		(void)snprintf(
			text, sizeof(text),
			"REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/%s 10.0.%d.1:6000;rport;branch=z9hG4bKr%u\n"
			"From: <sip:%s@example.net>;tag=f\nTo: <sip:%s@example.net>\nCall-ID: reg%d\nCSeq: %u "
			"REGISTER\n%s%s"
			"Content-Length: 0\n\n",
			transport_name(p->transport), k, net_cseq, user, user, k, net_cseq, extra, credentials);
		net_say(k, p, text);
		if (net_status(k) != 401 || i)
			break;
		credentials = net_credentials(k, user, password, "REGISTER", "sip:example.net", HASH_SHA256);
	}
	return net_status(k);
}

/* A message that a peer hand-writes outside or inside of dialogs. */
struct net_rq {
	const char *method, *uri, *from, *to, *call_id, *extra;
	unsigned cseq;
};

static inline void net_request(int k, const struct path *p, const char *branch, const struct net_rq *r,
			       const char *credentials)
{
	char text[4096];

	(void)snprintf(
		text, sizeof(text),
		"%s %s SIP/2.0\nVia: SIP/2.0/%s 10.0.%d.1:6000;rport;branch=z9hG4bK%s\nFrom: %s\nTo: %s\nCall-ID: %s\n"
		"CSeq: %u %s\nContact: <sip:me@10.0.%d.1:6000>\n%s%sContent-Length: 0\n\n",
		r->method, r->uri, transport_name(p->transport), k, branch, r->from, r->to, r->call_id, r->cseq,
		r->method, k, r->extra ? r->extra : "", credentials);
	net_say(k, p, text);
}

/* The answer of device k to the request that it got last. */
static inline void net_reply(int k, const struct path *p, const char *request, unsigned status, const char *extra)
{
	static char mem[8192];
	struct path there = net_at_exchange(k, p);
	struct wr w = wr_of(mem, sizeof(mem));
	struct addr none = { .family = ADDR_NONE };
	const char *why;
	unsigned bad;

	assert_int_equal(sip_parse(span_str(request), &net_msg, &why, &bad), OK);
	sip_write_response(&w, &net_msg, &none, status, NULL, status == 100 ? NULL : "calleetag");
	for (; *extra; extra++) {
		if (*extra == '\n')
			wr_u8(&w, '\r');
		wr_u8(&w, (uint8_t)*extra);
	}
	sip_write_end(&w, NULL, SPAN_NONE);
	assert_false(w.bad);
	net_post(-1, &there, wr_done(&w));
	net_run(2 * NET_DELAY_US);
}

/* ---- a and b by hand, on streams ---- */

static struct path hand_a, hand_b; /* streams of a (dev 0) and b (dev 1) */
static const struct net_rq hand_invite = {
	"INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=atag", "<sip:b@example.net>", "c1", NULL, 1
};

static inline void hand_begin(void)
{
	net_begin();
	hand_a = net_tcp(0, 1);
	hand_b = net_tcp(1, 1);
	assert_int_equal(
		net_register(0, &hand_a, "a", net_password("a"), "Contact: <sip:a1@10.0.0.1:40001;transport=tcp>\n"),
		200);
	assert_int_equal(
		net_register(1, &hand_b, "b", net_password("b"), "Contact: <sip:b1@10.0.1.1:40001;transport=tcp>\n"),
		200);
	net_forget_inbox(0);
	net_forget_inbox(1);
}

/* The final answers that device k has, and when the last one came. */
static inline unsigned hand_finals(int k, const char **text, uint64_t *at)
{
	unsigned n = 0;

	for (unsigned i = 0; i < dev[k].n_inbox; i++)
		if (!strncmp(dev[k].inbox[i], "SIP/2.0 ", 8) && dev[k].inbox[i][8] != '1') {
			n++;
			*text = dev[k].inbox[i];
			*at = dev[k].inbox_at[i];
		}
	return n;
}

static char hand_route[1024]; /* what a learned from Record-Route */

/* a calls b by hand; both know the other's tag then. */
static inline void hand_connect(void)
{
	struct net_rq ack = hand_invite;
	struct span rr;

	hand_begin();
	net_request(0, &hand_a, "i1", &hand_invite, "");
	net_reply(1, &hand_b, net_newest(1), 200, "Contact: <sip:b1@10.0.1.1:40001;transport=tcp>\n");
	net_run(MS(15));
	assert_int_equal(net_status(0), 200);
	rr = sip_value(&net_msg, H_RECORD_ROUTE);
	(void)snprintf(hand_route, sizeof(hand_route), "Route: %.*s\n", (int)rr.len, (const char *)rr.p);
	ack.method = "ACK";
	ack.uri = "sip:b1@10.0.1.1:40001;transport=tcp";
	ack.to = "<sip:b@example.net>;tag=calleetag";
	ack.extra = hand_route;
	net_request(0, &hand_a, "k1", &ack, "");
	net_run(MS(15));
	(void)net_newest(1);
	assert_true(net_msg.method == SIP_ACK && !sip_header(&net_msg, H_ROUTE));
	net_forget_inbox(0);
	net_forget_inbox(1);
}
