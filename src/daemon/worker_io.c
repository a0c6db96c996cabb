/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/worker_io.c - a worker's packets: trains of datagrams in, opened where they lie, merged into the TUN; super-packets out
 * of it, cut where they are sealed, in trains to the peer. */
#include <sched.h>
#include <string.h>

#include "daemon/worker.h"
#include "esp/cut.h"
#include "esp/segment.h"
#include "net/demux.h"
#include "net/raw.h"

static void count(_Atomic uint64_t *c, uint64_t n)
{
	if (n)
		(void)atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

/* ---- into the TUN ---- */

/* By where a packet comes from: what goes back to there is read from the same queue. */
static int queue_to(const struct worker *w, const uint8_t *packet)
{
	bool six = packet[0] >> 4 == 6;
	uint32_t sum = 0;

	for (size_t i = 0; i < (six ? 16 : 4); i += 4)
		sum ^= be32(packet + (six ? 8 : 12) + i);
	return w->tun_fd[(sum * UINT32_C(0x9e3779b1) >> 16) % w->n_queues]; /* Knuth, 6.4: addresses are alike */
}

static void merge_begin(struct worker *w)
{
	esp_merge_init(&w->merge, &w->merge_cfg, w->writes, WORKER_WRITES);
}

static void merge_write(struct worker *w)
{
	unsigned n = esp_merge_finish(&w->merge), at_once = 0;

	worker_apart(w);
	for (unsigned i = 0; i < n; i++) {
		const struct esp_write *one = &w->writes[i];

		at_once += one->n;
		if (at_once >= WORKER_AT_ONCE) {
			(void)sched_yield();
			at_once = 0;
		}
		if (vnet_write(queue_to(w, one->slice[0].p), &one->vnet, one->slice, one->n) != OK)
			count(&w->counters.tun_full, one->n);
	}
	worker_back(w);
	merge_begin(w);
}

/* What the plane held, or has to say to senders on this side; not merged: its memory is the plane's. */
static void write_told(struct worker *w)
{
	static const struct vnet whole = { .flags = 0 };
	struct esp_packet p;

	while (esp_plane_poll_inner(w->plane, &p)) {
		struct span one = span_of(p.p, p.len);

		if (vnet_write(w->tun_fd[0], &whole, &one, 1) != OK)
			count(&w->counters.tun_full, 1);
	}
}

/* Only while the engine waits for some. */
static bool is_echo_reply(const struct esp_packet *p)
{
	return p->len >= 48 && p->p[0] >> 4 == 6 && p->p[6] == 58 && p->p[40] == 129;
}

static void inner_in(struct worker *w, bool pinging, const struct esp_packet *p)
{
	if (pinging && is_echo_reply(p)) {
		struct stray s = { .kind = STRAY_INNER };

		worker_stray_out(w, &s, span_of(p->p, p->len));
		return;
	}
	if (esp_merge_add(&w->merge, p->p, p->len))
		return;
	merge_write(w);
	if (!esp_merge_add(&w->merge, p->p, p->len))
		count(&w->counters.tun_full, 1);
}

static void open_batch(struct worker *w, uint64_t now_us, struct esp_packet *in, unsigned n)
{
	struct esp_packet out[ESP_BATCH];
	bool pinging = atomic_load_explicit(&w->pinging, memory_order_relaxed);
	unsigned n_out = esp_plane_input(w->plane, now_us, in, n, out);

	for (unsigned i = 0; i < n_out; i++)
		inner_in(w, pinging, &out[i]);
}

/* ---- datagrams in ---- */

/* Is this datagram the shard's own? The kernel chose the socket by the first datagram of a train. */
static bool is_ours(const struct worker *w, struct span d)
{
	return demux_classify(d) == DEMUX_ESP && (w->divisor == 1 || be32(d.p) % w->divisor == w->shard);
}

/* The shard's own ESP in a datagram. ret_channel: the one by which it came, 0: none; whether a relay of ours has it, the plane knows. */
static bool own_esp(const struct worker *w, struct span *d, uint16_t *ret_channel)
{
	struct demux_inside in;

	*ret_channel = 0;
	if (is_ours(w, *d))
		return true;
	if (!demux_channel(*d, &in) || !is_ours(w, in.bytes))
		return false;
	*d = in.bytes;
	*ret_channel = in.channel;
	return true;
}

/* By the first datagram of a train: it says whose all of it is, as good as always. */
static bool may_pass(struct worker *w, uint64_t now_us, struct share *s, const struct udp_msg *m)
{
	struct span d = span_of(m->p, m->segment ? m->segment : m->len);
	uint16_t channel;

	if (share_idle(s, m->lost))
		return true;
	if (share_pass(s, now_us, own_esp(w, &d, &channel) ? esp_spi_call(w->plane, be32(d.p)) : 0, m->len, m->lost))
		return true;
	count(&w->counters.shed, m->segment ? (m->len + m->segment - 1) / m->segment : 1);
	return false;
}

/* What is left of them. */
static unsigned shed(struct worker *w, uint64_t now_us, struct share *s, struct udp_msg *msgs, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++)
		if (may_pass(w, now_us, s, &msgs[i])) {
			if (kept != i)
				msgs[kept] = msgs[i];
			kept++;
		}
	return kept;
}

static void messages(struct worker *w, uint64_t now_us, struct udp_msg *msgs, unsigned n)
{
	struct esp_packet in[ESP_BATCH];
	unsigned k = 0;

	merge_begin(w);
	for (unsigned i = 0; i < n; i++) {
		struct path *path = &msgs[i].path;
		size_t at = 0, len;
		uint8_t *p;

		while (udp_cut(&msgs[i], &at, &p, &len)) {
			struct span esp = span_of(p, len);
			uint16_t channel;
			bool own = own_esp(w, &esp, &channel);

			if (channel != path->channel) {
				/* what waits may be of this train, and then has the same path */
				open_batch(w, now_us, in, k);
				k = 0;
				path->channel = channel;
			}
			if (!own) {
				struct stray s = { .kind = STRAY_DATAGRAM, .path = *path };

				worker_stray_out(w, &s, span_of(p, len));
				continue;
			}
			in[k++] = (struct esp_packet){ .p = p + (channel ? PATH_CHANNEL_HDR : 0),
						       .len = esp.len,
						       .path = path,
						       .tos = path->tos };
			if (k == ESP_BATCH) {
				open_batch(w, now_us, in, k);
				worker_yield(w);
				k = 0;
			}
		}
	}
	if (k)
		open_batch(w, now_us, in, k);
	merge_write(w);
	write_told(w);
}

void worker_net_in(struct worker *w, uint64_t now_us, unsigned family)
{
	struct udp_msg msgs[NET_IN];
	unsigned n;

	worker_apart(w);
	n = udp_recv_trains(w->udp_fd[family], w->port[family], w->memory->in, NET_IN, msgs);
	worker_back(w);
	messages(w, now_us, msgs, shed(w, now_us, &w->share[family], msgs, n));
}

void worker_raw_in(struct worker *w, uint64_t now_us, unsigned family)
{
	struct udp_msg msgs[NET_IN];

	messages(w, now_us, msgs, raw_esp_recv(w->raw_fd[family], w->memory->in, NET_IN, msgs));
}

/* ---- out of the TUN ---- */

static unsigned send(struct udp_sender *sender, const struct esp_packet *p, unsigned n)
{
	struct udp_out msgs[ESP_BATCH_OUT];
	enum udp_fate fates[ESP_BATCH_OUT];

	if (sender->fd < 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		msgs[i] = (struct udp_out){ .path = p[i].path, .p = p[i].p, .len = p[i].len, .tos = p[i].tos };
	return udp_send_trains(sender, msgs, n, fates);
}

/* Do both leave by the same socket? */
static bool same_socket(const struct path *a, const struct path *b)
{
	return a == b || (a->transport == b->transport && a->remote.family == b->remote.family);
}

unsigned worker_send(struct udp_sender sender[2], const int raw_fd[2], const struct esp_packet *p, unsigned n)
{
	unsigned sent = 0;

	for (unsigned at = 0, k; at < n; at += k) {
		const struct path *path = p[at].path;
		unsigned six = path->remote.family == ADDR_IP6;

		for (k = 1; at + k < n && k < ESP_BATCH_OUT && same_socket(p[at + k].path, path);)
			k++;
		if (path->transport == TRANSPORT_ESP)
			sent += send(&(struct udp_sender){ .fd = raw_fd[six], .raw = true }, p + at, k);
		else if (path->transport == TRANSPORT_UDP)
			sent += send(&sender[six], p + at, k);
	}
	return n - sent;
}

static void flush(struct worker *w, const struct esp_packet *out, unsigned *n)
{
	if (*n)
		count(&w->counters.unsent, worker_send(w->sender, w->raw_fd, out, *n));
	*n = 0;
}

static void super_out(struct worker *w, uint64_t now_us, const struct vnet *v, size_t len, struct esp_packet *out,
		      unsigned *n)
{
	struct esp_super s;
	struct esp_super_work work = { .super = &s, .elsewhere = w->n_shards > 1 };

	if (esp_super_parse(span_of(w->memory->tun, len), v, &s) != OK) {
		count(&w->counters.unreadable, 1);
		return;
	}
	for (;;) {
		*n = esp_plane_super(w->plane, now_us, &work, *n, out);
		if (work.at >= s.n)
			break;
		flush(w, out, n);
	}
	if (work.lost) {
		struct stray stray = { .kind = STRAY_SUPER, .vnet = *v };

		worker_stray_out(w, &stray, span_of(w->memory->tun, len));
	}
}

void worker_tun_in(struct worker *w, uint64_t now_us, unsigned queue, unsigned n_ready)
{
	struct esp_packet out[ESP_BATCH_OUT];
	size_t bytes = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < WORKER_READS / n_ready && bytes < WORKER_READ_BYTES / n_ready; i++) {
		struct vnet v;
		size_t len = vnet_read(w->tun_fd[queue], w->memory->tun, VNET_PACKET_MAX, &v);

		if (!len)
			break;
		bytes += len;
		super_out(w, now_us, &v, len, out, &n);
		if (n + ESP_PIECES_MAX > ESP_BATCH_OUT || worker_wanted(w))
			flush(w, out, &n);
		if (!n)
			worker_yield(w);
	}
	flush(w, out, &n);
	write_told(w);
}
