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

	return ip + (sa->path.transport == TRANSPORT_UDP ? 8 : 0) + (sa->path.channel ? 4 : 0);
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

static struct span spi_key(uint32_t spi, uint8_t dst[4])
{
	put_be32(dst, spi);
	return span_of(dst, 4);
}

enum err esp_sadb_init(struct esp_sadb *db, unsigned max_sas, const struct rng *rng)
{
	memset(db, 0, sizeof(*db));
	if (max_sas == 0 || max_sas > 1u << 20)
		return ERR_LIMIT;
	db->max = max_sas;
	db->rng = *rng;
	db->call = calloc(max_sas, sizeof(*db->call));
	db->by_spi = table_new(max_sas, rng);
	return db->call && db->by_spi ? OK : ERR_NOMEM;
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
	while (db->newest)
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) removing it makes another one the newest */
		esp_sadb_remove(db, db->newest);
	table_free(db->by_spi);
	free(db->call);
	memset(db, 0, sizeof(*db));
}

struct esp_call *esp_sadb_call(const struct esp_sadb *db, uint32_t call)
{
	for (unsigned i = 0; i < db->max; i++)
		if (db->call[i].used && db->call[i].call == call)
			return &db->call[i];
	return NULL;
}

/* The call's place; else one that was never used; else that of the call which has been without SAs for longest.
 * There is one, because each place in use has an SA and one more SA is allowed. */
static struct esp_call *call_place(struct esp_sadb *db, uint32_t call)
{
	struct esp_call *c = esp_sadb_call(db, call);

	if (c)
		return c;
	for (unsigned i = 0; i < db->max; i++) {
		struct esp_call *at = &db->call[i];

		if (at->n_sas)
			continue;
		if (!at->used) {
			c = at;
			break;
		}
		if (!c || at->idle_since < c->idle_since)
			c = at;
	}
	assert(c);
	*c = (struct esp_call){ .used = true, .call = call };
	return c;
}

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
	struct esp_sa *sa;
	uint8_t key[4];
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
	e = table_put(db->by_spi, spi_key(sa->spi_in, key), sa);
	if (e != OK) {
		sa_free(sa);
		return e;
	}
	sa->call = call_place(db, cfg->call);
	sa->call->n_sas++;
	if (cfg->mtu)
		sa->call->mtu = cfg->mtu;
	esp_sa_fit(sa);
	sa->older = db->newest;
	if (db->newest)
		db->newest->newer = sa;
	db->newest = sa;
	db->n++;
	*ret = sa;
	return OK;
}

void esp_sadb_remove(struct esp_sadb *db, struct esp_sa *sa)
{
	uint8_t key[4];

	(void)table_take(db->by_spi, spi_key(sa->spi_in, key));
	if (sa->newer)
		sa->newer->older = sa->older;
	else
		db->newest = sa->older;
	if (sa->older)
		sa->older->newer = sa->newer;
	if (--sa->call->n_sas == 0)
		sa->call->idle_since = ++db->serial;
	db->n--;
	sa_free(sa);
}

struct esp_sa *esp_sadb_find(const struct esp_sadb *db, uint32_t spi_in)
{
	uint8_t key[4];

	return table_find(db->by_spi, spi_key(spi_in, key));
}
