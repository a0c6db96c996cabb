/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/sadb.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Numbers that we do not reach without ESN: what is left is time for a rekeying (plane.h). */
#define SEQ_RESERVE (UINT64_C(1) << 20)

bool esp_rate_pass(struct esp_rate *r, uint64_t now_us)
{
	if (r->due_us > now_us + (uint64_t)(ESP_PING_BURST - 1) * ESP_PING_INTERVAL_US)
		return false;
	r->due_us = (r->due_us > now_us ? r->due_us : now_us) + ESP_PING_INTERVAL_US;
	return true;
}

static bool host_in(const struct esp_ts *ts, const uint8_t *ip, size_t len)
{
	return memcmp(ip, ts->ip_lo, len) >= 0 && memcmp(ip, ts->ip_hi, len) <= 0;
}

static bool any_host_in(const struct esp_ts *ts, unsigned n, enum addr_family family, const uint8_t *ip)
{
	for (unsigned i = 0; i < n; i++)
		if (ts[i].family == family && host_in(&ts[i], ip, family == ADDR_IP4 ? 4 : 16))
			return true;
	return false;
}

bool esp_sa_covers_hosts(const struct esp_sa *sa, const struct esp_tuple *t)
{
	return any_host_in(sa->ts_local, sa->n_local, t->family, t->local_ip) &&
	       any_host_in(sa->ts_peer, sa->n_peer, t->family, t->peer_ip);
}

/* RFC 4301, 4.4.1.1: a selector that names ports wants a protocol that has them. */
static bool port_in(const struct esp_ts *ts, uint8_t protocol, uint16_t port)
{
	if (esp_proto_has_ports(protocol) || protocol == ESP_PROTO_ICMP || protocol == ESP_PROTO_ICMP6)
		return port >= ts->port_lo && port <= ts->port_hi;
	return ts->port_lo == 0 && ts->port_hi == UINT16_MAX;
}

static bool end_in(const struct esp_ts *list, unsigned n, const struct esp_tuple *t, const uint8_t *ip, uint16_t port)
{
	size_t len = t->family == ADDR_IP4 ? 4 : 16;

	for (unsigned i = 0; i < n; i++) {
		const struct esp_ts *ts = &list[i];

		if (ts->family == t->family && (ts->protocol == 0 || ts->protocol == t->protocol) &&
		    host_in(ts, ip, len) && port_in(ts, t->protocol, port))
			return true;
	}
	return false;
}

bool esp_sa_covers(const struct esp_sa *sa, const struct esp_tuple *t)
{
	return end_in(sa->ts_local, sa->n_local, t, t->local_ip, t->local_port) &&
	       end_in(sa->ts_peer, sa->n_peer, t, t->peer_ip, t->peer_port);
}

static bool ts_valid(const struct esp_ts *list, unsigned n)
{
	if (n == 0 || n > ESP_TS_MAX)
		return false;
	for (unsigned i = 0; i < n; i++) {
		const struct esp_ts *ts = &list[i];

		if (ts->family != ADDR_IP4 && ts->family != ADDR_IP6)
			return false;
		if (ts->port_lo > ts->port_hi || memcmp(ts->ip_lo, ts->ip_hi, ts->family == ADDR_IP4 ? 4 : 16) > 0)
			return false;
	}
	return true;
}

static bool config_valid(const struct esp_sa_config *c)
{
	return c->spi_in >= ESP_SPI_MIN && c->spi_out >= ESP_SPI_MIN && (unsigned)c->alg < CIPHER_COUNT &&
	       (!c->mtu || c->mtu >= ESP_MTU_MIN) &&
	       (c->open == ESP_OPEN_IN || c->open == ESP_OPEN_OUT || c->open == ESP_OPEN_BOTH) &&
	       ts_valid(c->ts_local, c->n_local) && ts_valid(c->ts_peer, c->n_peer);
}

static uint64_t seq_limit(const struct esp_sa_config *c)
{
	/* With ESN the cipher's bound comes first; 2^64 is never reached (RFC 4303, 3.3.3). */
	uint64_t most = c->esn ? UINT64_MAX - 1 : UINT32_MAX;

	if (c->hard_packets)
		return c->hard_packets < most ? c->hard_packets : most;
	return c->esn ? most : (UINT64_C(1) << 32) - SEQ_RESERVE;
}

size_t esp_sa_around(const struct esp_sa *sa)
{
	size_t ip = sa->path.remote.family == ADDR_IP6 ? 40 : 20;

	return ip + (sa->path.transport == TRANSPORT_UDP ? 8 : 0) + (sa->path.channel ? PATH_CHANNEL_HDR : 0);
}

void esp_sa_fit(struct esp_sa *sa)
{
	const size_t most = ESP_PACKET_MAX - ESP_OVERHEAD;
	size_t fits;

	sa->inner_max = most;
	if (!sa->call->mtu || sa->path.remote.family == ADDR_NONE)
		return;
	fits = esp_packet_inner_max(&sa->out, sa->call->mtu - esp_sa_around(sa));
	sa->inner_max = fits < most ? fits : most;
}

static bool is_relay(const struct path *path, const struct addr *server, uint16_t channel)
{
	return path->channel == channel && addr_eq(&path->remote, server);
}

void esp_sa_set_path(struct esp_sa *sa, const struct path *path)
{
	if (sa->path.channel && !is_relay(path, &sa->path.remote, sa->path.channel)) {
		/* what is on its way by it still comes in */
		sa->call->relay = sa->path.remote;
		sa->call->relay_channel = sa->path.channel;
	}
	sa->path = *path;
	esp_sa_fit(sa);
}

bool esp_sa_relayed(const struct esp_sa *sa, const struct path *by)
{
	return is_relay(by, &sa->path.remote, sa->path.channel) ||
	       is_relay(by, &sa->call->relay, sa->call->relay_channel);
}

/* Numbers that a stranger cannot choose: inbound SPIs and calls are ours. Which are in the lists, that is; he may ask for any. */
static uint32_t place_of(const struct esp_sadb *db, uint32_t number)
{
	return number * UINT32_C(0x9e3779b1) >> (32 - db->bits); /* Knuth, 6.4 */
}

enum err esp_sadb_init(struct esp_sadb *db, unsigned max_sas, const struct rng *rng)
{
	memset(db, 0, sizeof(*db));
	if (max_sas == 0 || max_sas > 1u << 20)
		return ERR_LIMIT;
	db->max = max_sas;
	db->rng = *rng;
	db->bits = 4;
	while (1u << db->bits < max_sas)
		db->bits++;
	db->call = calloc(max_sas, sizeof(*db->call));
	db->by_spi = calloc((size_t)1 << db->bits, sizeof(struct esp_sa *));
	db->by_call = calloc((size_t)1 << db->bits, sizeof(struct esp_call *));
	if (!db->call || !db->by_spi || !db->by_call)
		return ERR_NOMEM;
	return esp_index_new(rng, max_sas, &db->index);
}

static void sa_free(struct esp_sa *sa)
{
	if (!sa)
		return;
	esp_cipher_done(&sa->in);
	esp_cipher_done(&sa->out);
	free(sa);
}

void esp_sadb_done(struct esp_sadb *db)
{
	for (unsigned i = 0; i < db->n_places; i++)
		while (db->call[i].newest)
			/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) removing it makes another one the newest */
			esp_sadb_remove(db, db->call[i].newest);
	esp_index_free(db->index);
	free(db->by_spi);
	free(db->by_call);
	free(db->call);
	memset(db, 0, sizeof(*db));
}

/* ---- calls ---- */

static struct esp_call **call_link(const struct esp_sadb *db, uint32_t call)
{
	struct esp_call **link = &db->by_call[place_of(db, call)];

	while (*link && (*link)->call != call)
		link = &(*link)->chain;
	return link;
}

struct esp_call *esp_sadb_call(const struct esp_sadb *db, uint32_t call)
{
	return *call_link(db, call);
}

static void idle_link(struct esp_sadb *db, struct esp_call *c)
{
	c->idle_next = NULL;
	c->idle_prev = db->idle_last;
	*(c->idle_prev ? &c->idle_prev->idle_next : &db->idle_first) = c;
	db->idle_last = c;
}

static void idle_unlink(struct esp_sadb *db, struct esp_call *c)
{
	*(c->idle_prev ? &c->idle_prev->idle_next : &db->idle_first) = c->idle_next;
	*(c->idle_next ? &c->idle_next->idle_prev : &db->idle_last) = c->idle_prev;
	c->idle_prev = c->idle_next = NULL;
}

void esp_sadb_call_forget(struct esp_sadb *db, struct esp_call *c)
{
	assert(!c->newest);
	idle_unlink(db, c);
	*call_link(db, c->call) = c->chain;
	*c = (struct esp_call){ .chain = db->unused };
	db->unused = c;
}

/* The call's place, among the idle ones if it is new or has no SA; else one that is not used; else that of the call which has been
 * without SAs for longest. There is one, because each place in use has an SA and one more SA is allowed. */
static struct esp_call *call_place(struct esp_sadb *db, uint32_t call)
{
	struct esp_call **link = call_link(db, call), *c = *link;

	if (c)
		return c;
	if (!db->unused && db->n_places < db->max) {
		c = &db->call[db->n_places++];
	} else {
		if (!db->unused)
			esp_sadb_call_forget(db, db->idle_first);
		c = db->unused;
		assert(c);
		db->unused = c->chain;
		link = call_link(db, call);
	}
	*c = (struct esp_call){ .call = call };
	*link = c;
	idle_link(db, c);
	return c;
}

/* ---- SAs ---- */

static enum err sa_new(const struct esp_sadb *db, const struct esp_sa_config *cfg, struct esp_sa **ret)
{
	struct esp_sa *sa = calloc(1, sizeof(*sa));
	enum err e;

	if (!sa)
		return ERR_NOMEM;
	e = esp_cipher_init(&sa->in, cfg->alg, cfg->key_in, &db->rng, cfg->esn);
	if (e == OK)
		e = esp_cipher_init(&sa->out, cfg->alg, cfg->key_out, &db->rng, cfg->esn);
	if (e != OK) {
		sa_free(sa);
		return e;
	}
	sa->spi_in = cfg->spi_in;
	sa->spi_out = cfg->spi_out;
	sa->grant = cfg->grant_id;
	sa->seq_max = seq_limit(cfg);
	memcpy(sa->ts_local, cfg->ts_local, sizeof(sa->ts_local));
	memcpy(sa->ts_peer, cfg->ts_peer, sizeof(sa->ts_peer));
	sa->n_local = cfg->n_local;
	sa->n_peer = cfg->n_peer;
	sa->open = cfg->open;
	sa->allow_ping = cfg->allow_ping;
	sa->copy_dscp = cfg->copy_dscp;
	sa->ping_one_way = cfg->ping_one_way;
	sa->path = cfg->path;
	sa->standby = cfg->standby;
	sa->replaces = cfg->replaces;
	sa->end_us = TIME_NEVER;
	sa->soft_packets = cfg->soft_packets ? cfg->soft_packets : UINT64_MAX;
	sa->soft_bytes = cfg->soft_bytes ? cfg->soft_bytes : UINT64_MAX;
	sa->hard_bytes = cfg->hard_bytes ? cfg->hard_bytes : UINT64_MAX;
	*ret = sa;
	return OK;
}

enum err esp_sadb_add(struct esp_sadb *db, const struct esp_sa_config *cfg, struct esp_sa **ret)
{
	struct esp_sa *sa, **spi = &db->by_spi[place_of(db, cfg->spi_in)];
	struct esp_call *c;
	enum err e;

	if (!config_valid(cfg))
		return ERR_MALFORMED;
	if (esp_sadb_find(db, cfg->spi_in))
		return ERR_WRONG_STATE;
	if (db->n == db->max)
		return ERR_LIMIT;
	e = sa_new(db, cfg, &sa);
	if (e != OK)
		return e;
	sa->serial = ++db->serial;
	e = esp_index_add(db->index, sa);
	if (e != OK) {
		sa_free(sa);
		return e;
	}
	sa->spi_chain = *spi;
	*spi = sa;
	c = sa->call = call_place(db, cfg->call);
	if (cfg->mtu)
		c->mtu = cfg->mtu;
	esp_sa_fit(sa);
	sa->older = c->newest;
	if (c->newest)
		c->newest->newer = sa;
	else
		idle_unlink(db, c);
	c->newest = sa;
	db->n++;
	*ret = sa;
	return OK;
}

void esp_sadb_remove(struct esp_sadb *db, struct esp_sa *sa)
{
	struct esp_sa **spi = &db->by_spi[place_of(db, sa->spi_in)];

	while (*spi != sa)
		spi = &(*spi)->spi_chain;
	*spi = sa->spi_chain;
	esp_index_remove(db->index, sa);
	if (sa->newer)
		sa->newer->older = sa->older;
	else
		sa->call->newest = sa->older;
	if (sa->older)
		sa->older->newer = sa->newer;
	if (!sa->call->newest)
		idle_link(db, sa->call);
	db->n--;
	sa_free(sa);
}

struct esp_sa *esp_sadb_find(const struct esp_sadb *db, uint32_t spi_in)
{
	struct esp_sa *sa = db->by_spi[place_of(db, spi_in)];

	while (sa && sa->spi_in != spi_in)
		sa = sa->spi_chain;
	return sa;
}
