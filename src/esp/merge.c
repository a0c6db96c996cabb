/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/merge.h"

#include <string.h>

#include "esp/inner.h"
#include "esp/offload_impl.h"
#include "esp/sum.h"

/* What is seen of a packet. */
struct look {
	uint8_t *p, *l4;
	size_t len, l3, head; /* head: where the payload begins */
	uint8_t protocol;
	bool v6;
	bool may_join; /* a run, by what this packet alone says */
	bool may_begin;
	uint32_t hash;
};

/* ---- one packet ---- */

static bool ip_look(struct look *l)
{
	const uint8_t *p = l->p;

	if (l->len >= IP6_HEADER && p[0] >> 4 == 6) {
		l->v6 = true;
		l->l3 = IP6_HEADER;
		l->protocol = p[IP6_AT_NEXT];
		return at16(p + IP6_AT_LEN) == l->len - IP6_HEADER;
	}
	if (l->len < IP4_HEADER || p[0] != 0x45)
		return false;
	l->l3 = IP4_HEADER;
	l->protocol = p[IP4_AT_PROTOCOL];
	return at16(p + IP4_AT_LEN) == l->len && !(at16(p + IP4_AT_FRAGMENT) & ~(unsigned)IP4_DONT_FRAGMENT);
}

/* Only a filter before the comparison. */
static uint32_t hash_of(const struct look *l)
{
	const uint8_t *src = l->p + (l->v6 ? IP6_AT_SRC : IP4_AT_SRC);
	uint64_t h = (uint64_t)at32(l->l4) << 8 | l->protocol;

	h ^= at64(src);
	if (l->v6)
		h ^= at64(src + 8) * 3 ^ at64(src + 16) * 5 ^ at64(src + 24) * 7;
	return (uint32_t)(h * 0x9e3779b97f4a7c15u >> 32);
}

static bool tcp_look(struct look *l)
{
	size_t head = l->l3 + TCP_HEADER;
	uint8_t flags;

	if (l->len < head)
		return false;
	head = l->l3 + (size_t)(l->l4[TCP_AT_OFFSET] >> 4) * 4;
	if (head < l->l3 + TCP_HEADER || head > l->len)
		return false;
	l->head = head;
	flags = l->l4[TCP_AT_FLAGS];
	/* 0xffff in the place of 0 is right, but comes out as 0 */
	l->may_join = l->len > head && (flags & ~(TCP_FIN | TCP_PSH | TCP_ECE)) == TCP_ACK &&
		      at16(l->l4 + TCP_AT_CSUM) != 0xffff;
	l->may_begin =
		l->len > head && (flags & ~(TCP_ECE | TCP_CWR)) == TCP_ACK && at16(l->l4 + TCP_AT_CSUM) != 0xffff;
	return true;
}

static bool udp_look(struct look *l)
{
	if (l->len < l->l3 + UDP_HEADER || at16(l->l4 + UDP_AT_LEN) != l->len - l->l3)
		return false;
	l->head = l->l3 + UDP_HEADER;
	l->may_join = l->may_begin = l->len > l->head && at16(l->l4 + UDP_AT_CSUM);
	return true;
}

/* False: no TCP or UDP packet whose ports say which flow it is of. */
static bool packet_look(uint8_t *p, size_t len, struct look *l)
{
	memset(l, 0, sizeof(*l));
	l->p = p;
	l->len = len;
	if (!ip_look(l))
		return false;
	l->l4 = p + l->l3;
	if (l->protocol == ESP_PROTO_TCP ? !tcp_look(l) : l->protocol != ESP_PROTO_UDP || !udp_look(l))
		return false;
	if (!l->v6 && at16(p + IP4_AT_CSUM) == 0xffff)
		l->may_join = l->may_begin = false;
	l->hash = hash_of(l);
	return true;
}

static bool verify(const uint8_t *p, size_t len, bool v6, uint8_t protocol)
{
	size_t l3 = v6 ? IP6_HEADER : IP4_HEADER;

	if (!v6 && esp_sum_fold(words_sum(p, IP4_HEADER / 4)) != 0xffff)
		return false;
	return esp_sum_fold(pseudo_sum(p, v6, protocol, len - l3) + esp_sum(p + l3, len - l3)) == 0xffff;
}

/* ---- writes ---- */

static uint8_t *first_of(const struct esp_write *w)
{
	return (uint8_t *)w->slice[0].p; /* given to us as one that may be changed */
}

static void push(struct esp_merge *m, const struct look *l)
{
	struct esp_write *w = &m->writes[m->n++];

	w->vnet = (struct vnet){ .flags = 0 };
	w->n = 1;
	w->len = l->len;
	w->slice[0] = span_of(l->p, l->len);
}

/* The headers of what has become a super-packet. Before, the first packet's are as they came. */
static void headers_write(struct esp_write *w)
{
	uint8_t *p = first_of(w), *l4 = p + w->vnet.csum_start;
	size_t l4_len = w->len - w->vnet.csum_start;
	bool v6 = p[0] >> 4 == 6, udp = w->vnet.gso_type == VNET_GSO_UDP_L4;
	uint8_t protocol = udp ? ESP_PROTO_UDP : ESP_PROTO_TCP;

	if (v6) {
		set16(p + IP6_AT_LEN, (uint16_t)l4_len);
	} else {
		set16(p + IP4_AT_LEN, (uint16_t)w->len);
		set16(p + IP4_AT_CSUM, 0);
		set16(p + IP4_AT_CSUM, (uint16_t)~esp_sum_fold(words_sum(p, IP4_HEADER / 4)));
	}
	if (udp)
		set16(l4 + UDP_AT_LEN, (uint16_t)l4_len);
	set16(l4 + w->vnet.csum_offset, esp_sum_fold(pseudo_sum(p, v6, protocol, l4_len)));
}

/* ---- runs ---- */

static void run_close(struct esp_merge *m, struct esp_run *run)
{
	struct esp_write *w = &m->writes[run->at];

	if (w->n > 1)
		headers_write(w);
	else
		w->vnet = (struct vnet){ .flags = run->verified ? VNET_DATA_VALID : 0 };
	*run = m->runs[--m->n_runs];
}

static bool same_flow(const uint8_t *first, const struct look *l)
{
	size_t at = l->v6 ? IP6_AT_SRC : IP4_AT_SRC, n = l->v6 ? 32 : 8;

	return first[0] >> 4 == l->p[0] >> 4 && first[l->v6 ? IP6_AT_NEXT : IP4_AT_PROTOCOL] == l->protocol &&
	       !memcmp(first + at, l->p + at, n) && at32(first + l->l3) == at32(l->l4);
}

static struct esp_run *run_find(struct esp_merge *m, const struct look *l)
{
	for (unsigned i = 0; i < m->n_runs; i++)
		if (m->runs[i].hash == l->hash && same_flow(first_of(&m->writes[m->runs[i].at]), l))
			return &m->runs[i];
	return NULL;
}

/* Before a packet that may be of any flow between its addresses; all runs where it has none. */
static void runs_close_between(struct esp_merge *m, const uint8_t *p, size_t len)
{
	bool v6 = p[0] >> 4 == 6, known = len >= (v6 ? IP6_HEADER : IP4_HEADER);
	size_t at = v6 ? IP6_AT_SRC : IP4_AT_SRC, n = v6 ? 32 : 8;

	for (unsigned i = m->n_runs; i-- > 0;) {
		const uint8_t *first = first_of(&m->writes[m->runs[i].at]);

		if (!known || (first[0] >> 4 == p[0] >> 4 && !memcmp(first + at, p + at, n)))
			run_close(m, &m->runs[i]);
	}
}

static void run_open(struct esp_merge *m, const struct look *l)
{
	struct esp_run *run;
	struct vnet *v = &m->writes[m->n - 1].vnet;
	bool udp = l->protocol == ESP_PROTO_UDP;

	if (m->n_runs == ESP_RUNS_MAX)
		run_close(m, &m->runs[m->victim++ % ESP_RUNS_MAX]);
	run = &m->runs[m->n_runs++];
	*run = (struct esp_run){ .at = m->n - 1, .hash = l->hash };
	run->seq = udp ? 0 : at32(l->l4 + TCP_AT_SEQ) + (uint32_t)(l->len - l->head);
	run->id = l->v6 ? 0 : at16(l->p + IP4_AT_ID);
	/* as it will be if another one comes */
	v->flags = VNET_NEEDS_CSUM;
	if (udp)
		v->gso_type = VNET_GSO_UDP_L4;
	else
		v->gso_type = l->v6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4;
	if (!udp && l->l4[TCP_AT_FLAGS] & TCP_CWR)
		v->gso_type |= VNET_GSO_ECN;
	v->hdr_len = (uint16_t)l->head;
	v->gso_size = (uint16_t)(l->len - l->head);
	v->csum_start = (uint16_t)l->l3;
	v->csum_offset = udp ? UDP_AT_CSUM : TCP_AT_CSUM;
}

static bool ip_continues(const struct esp_merge *m, const struct esp_run *run, const struct look *l,
			 const uint8_t *first, bool *ret_fixed)
{
	uint16_t id, fragment;
	bool second = m->writes[run->at].n == 1;

	*ret_fixed = false;
	if (l->v6)
		return at32(first) == at32(l->p) && first[IP6_AT_HOPS] == l->p[IP6_AT_HOPS];
	fragment = at16(l->p + IP4_AT_FRAGMENT);
	if (first[IP4_AT_TOS] != l->p[IP4_AT_TOS] || first[IP4_AT_TTL] != l->p[IP4_AT_TTL] ||
	    at16(first + IP4_AT_FRAGMENT) != fragment)
		return false;
	id = at16(l->p + IP4_AT_ID);
	*ret_fixed = id == run->id;
	if (second ? *ret_fixed && !m->cfg.fixed_ids : *ret_fixed != run->id_fixed)
		return false;
	return *ret_fixed ? fragment == IP4_DONT_FRAGMENT : id == (uint16_t)(run->id + 1);
}

static bool tcp_continues(const struct esp_run *run, const struct look *l, const uint8_t *first)
{
	const uint8_t *one = first + l->l3, *other = l->l4;

	return at32(other + TCP_AT_SEQ) == run->seq && at32(one + TCP_AT_ACK) == at32(other + TCP_AT_ACK) &&
	       one[TCP_AT_OFFSET] == other[TCP_AT_OFFSET] &&
	       !((one[TCP_AT_FLAGS] ^ other[TCP_AT_FLAGS]) & ~(TCP_FIN | TCP_PSH | TCP_CWR)) &&
	       at16(one + TCP_AT_WINDOW) == at16(other + TCP_AT_WINDOW) &&
	       !memcmp(one + TCP_AT_URGENT, other + TCP_AT_URGENT, l->head - l->l3 - TCP_AT_URGENT);
}

/* Does it go on where the run ends, and are both right? The sums are taken last, the first packet's when there is a
 * second one. */
static bool continues(struct esp_merge *m, struct esp_run *run, struct look *l, bool *ret_fixed)
{
	const struct esp_write *w = &m->writes[run->at];
	const uint8_t *first = first_of(w);
	size_t payload = l->len - l->head;

	if (!l->may_join || l->head != w->vnet.hdr_len || payload > w->vnet.gso_size ||
	    w->len + payload > ESP_WRITE_MAX || !ip_continues(m, run, l, first, ret_fixed) ||
	    (l->protocol == ESP_PROTO_TCP && !tcp_continues(run, l, first)))
		return false;
	if (!run->verified && !verify(first, w->len, l->v6, l->protocol))
		return false;
	run->verified = true;
	if (verify(l->p, l->len, l->v6, l->protocol))
		return true;
	l->may_begin = false;
	return false;
}

static void append(struct esp_merge *m, struct esp_run *run, const struct look *l, bool id_fixed)
{
	struct esp_write *w = &m->writes[run->at];
	size_t payload = l->len - l->head;
	uint8_t last = 0;

	w->slice[w->n++] = span_of(l->p + l->head, payload);
	w->len += payload;
	run->seq += (uint32_t)payload;
	run->id = l->v6 ? 0 : at16(l->p + IP4_AT_ID);
	run->id_fixed = id_fixed;
	if (l->protocol == ESP_PROTO_TCP) {
		last = l->l4[TCP_AT_FLAGS] & (TCP_FIN | TCP_PSH);
		first_of(w)[w->vnet.csum_start + TCP_AT_FLAGS] |= last;
	}
	if (last || payload < w->vnet.gso_size || w->n == ESP_SLICES_MAX)
		run_close(m, run);
}

/* ---- the batch ---- */

void esp_merge_init(struct esp_merge *m, const struct esp_merge_config *cfg, struct esp_write *writes, unsigned cap)
{
	memset(m, 0, sizeof(*m));
	m->cfg = *cfg;
	m->writes = writes;
	m->cap = cap;
}

bool esp_merge_add(struct esp_merge *m, uint8_t *packet, size_t len)
{
	struct esp_run *run;
	struct look l;
	bool fixed;

	if (m->n == m->cap)
		return false;
	if (!packet_look(packet, len, &l)) {
		runs_close_between(m, packet, len);
		push(m, &l);
		return true;
	}
	run = run_find(m, &l);
	if (run) {
		if (continues(m, run, &l, &fixed)) {
			append(m, run, &l, fixed);
			return true;
		}
		run_close(m, run);
	}
	push(m, &l);
	if (l.may_begin && (l.protocol == ESP_PROTO_TCP || m->cfg.uso))
		run_open(m, &l);
	return true;
}

unsigned esp_merge_finish(struct esp_merge *m)
{
	while (m->n_runs)
		run_close(m, &m->runs[m->n_runs - 1]);
	return m->n;
}
