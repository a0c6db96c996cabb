/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/set.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "esp/packet.h"

#define ALONE_MAX 4 /* packets that the owner himself sends at a time, where others work on the shards */

struct esp_set {
	struct esp_set_hooks hooks;
	unsigned n;
	struct esp_plane *plane[ESP_SHARDS_MAX];
	struct esp_kernel *kernel; /* NULL: there is none */
	bool may_echo_news[ESP_SHARDS_MAX], may_be_due[ESP_SHARDS_MAX]; /* there may be something to poll */
	uint64_t n_changes;
	uint8_t copies[2 * ALONE_MAX][ESP_PACKET_MAX], told[ESP_PACKET_MAX];
	struct path paths[2 * ALONE_MAX];
};

enum err esp_set_new(const struct esp_plane_config *cfg, unsigned n, const struct esp_set_hooks *hooks,
		     struct esp_set **ret)
{
	struct esp_plane_config one = *cfg;
	struct esp_set *s;
	enum err e = OK;

	if (!n || n > ESP_SHARDS_MAX)
		return ERR_LIMIT;
	one.max_flows = cfg->max_flows < n ? cfg->max_flows : cfg->max_flows / n;
	s = calloc(1, sizeof(*s));
	if (!s)
		return ERR_NOMEM;
	s->n = n;
	if (hooks)
		s->hooks = *hooks;
	for (unsigned i = 0; e == OK && i < n; i++)
		e = esp_plane_new(&one, &s->plane[i]);
	if (e != OK) {
		esp_set_free(s);
		return e;
	}
	*ret = s;
	return OK;
}

void esp_set_free(struct esp_set *s)
{
	for (unsigned i = 0; s && i < s->n; i++)
		esp_plane_free(s->plane[i]);
	if (s)
		esp_kernel_free(s->kernel);
	free(s);
}

enum err esp_set_kernel_begin(struct esp_set *s)
{
	if (!s->kernel)
		s->kernel = esp_kernel_new();
	return s->kernel ? OK : ERR_NOMEM;
}

bool esp_set_has_kernel(const struct esp_set *s)
{
	return s->kernel != NULL;
}

unsigned esp_set_divisor(const struct esp_set *s)
{
	return s->n + (s->kernel ? 1 : 0);
}

bool esp_set_in_kernel(const struct esp_set *s, uint32_t spi_in)
{
	return s->kernel && spi_in % esp_set_divisor(s) == s->n;
}

struct esp_plane *esp_set_plane(struct esp_set *s, unsigned shard)
{
	return s->plane[shard];
}

unsigned esp_set_shard(const struct esp_set *s, uint32_t call)
{
	return call % s->n;
}

static struct esp_plane *enter(struct esp_set *s, unsigned shard)
{
	if (s->hooks.enter)
		s->hooks.enter(s->hooks.arg, shard);
	return s->plane[shard];
}

static void leave(struct esp_set *s, unsigned shard)
{
	if (s->hooks.leave)
		s->hooks.leave(s->hooks.arg, shard);
}

uint64_t esp_set_changes(const struct esp_set *s)
{
	return s->n_changes;
}

static void news(struct esp_set *s, unsigned shard)
{
	s->may_echo_news[shard] = s->may_be_due[shard] = true;
}

static bool has_news(struct esp_set *s, unsigned shard, bool *which)
{
	if (!s->hooks.news || s->hooks.news(s->hooks.arg, shard))
		news(s, shard);
	return *which;
}

/* ---- by call, by SPI ---- */

enum err esp_set_add(struct esp_set *s, uint64_t now_us, const struct esp_sa_config *cfg)
{
	unsigned at = esp_set_shard(s, cfg->call);
	enum err e;

	s->n_changes++;
	if (esp_set_in_kernel(s, cfg->spi_in))
		return esp_kernel_add(s->kernel, now_us, cfg);
	if (cfg->spi_in % esp_set_divisor(s) != at)
		return ERR_MALFORMED;
	e = esp_sa_add(enter(s, at), now_us, cfg);
	leave(s, at);
	if (e == OK && !cfg->standby && esp_set_in_kernel(s, cfg->replaces))
		esp_kernel_superseded(s->kernel, cfg->replaces);
	return e;
}

/* What waits for it may be in the other plane. */
void esp_set_retire(struct esp_set *s, uint64_t now_us, uint32_t call, uint32_t spi_in)
{
	unsigned at = esp_set_shard(s, call);

	s->n_changes++;
	if (s->kernel)
		esp_kernel_retire(s->kernel, now_us, spi_in);
	if (esp_set_in_kernel(s, spi_in))
		esp_sa_replaced(enter(s, at), call, spi_in);
	else
		esp_sa_retire(enter(s, at), now_us, spi_in);
	leave(s, at);
}

void esp_set_grant_remove(struct esp_set *s, uint32_t call, uint32_t grant_id)
{
	unsigned at = esp_set_shard(s, call);

	s->n_changes++;
	if (s->kernel)
		esp_kernel_grant_remove(s->kernel, call, grant_id);
	esp_grant_remove(enter(s, at), call, grant_id);
	leave(s, at);
}

void esp_set_call_remove(struct esp_set *s, uint32_t call)
{
	unsigned at = esp_set_shard(s, call);

	s->n_changes++;
	if (s->kernel)
		esp_kernel_call_remove(s->kernel, call);
	esp_call_remove(enter(s, at), call);
	leave(s, at);
}

void esp_set_path(struct esp_set *s, uint32_t call, const struct path *path)
{
	unsigned at = esp_set_shard(s, call);

	s->n_changes++;
	if (s->kernel)
		esp_kernel_path(s->kernel, call, path);
	esp_call_set_path(enter(s, at), call, path);
	leave(s, at);
}

void esp_set_mtu(struct esp_set *s, uint32_t call, unsigned mtu)
{
	unsigned at = esp_set_shard(s, call);

	s->n_changes++;
	if (s->kernel)
		esp_kernel_mtu(s->kernel, call, mtu);
	esp_call_set_mtu(enter(s, at), call, mtu);
	leave(s, at);
}

void esp_set_hold(struct esp_set *s, uint32_t call, bool hold)
{
	unsigned at = esp_set_shard(s, call);

	s->n_changes++;
	if (s->kernel)
		esp_kernel_hold(s->kernel, call, hold);
	esp_call_hold(enter(s, at), call, hold);
	leave(s, at);
}

void esp_set_ping_off(struct esp_set *s, uint32_t call)
{
	unsigned at = esp_set_shard(s, call);

	s->n_changes++;
	esp_call_ping_off(enter(s, at), call);
	leave(s, at);
}

bool esp_set_spi_fits(struct esp_set *s, uint32_t call, bool kernel, uint32_t spi_in)
{
	unsigned at = esp_set_shard(s, call);
	bool taken;

	if (kernel)
		return esp_set_in_kernel(s, spi_in) && !esp_kernel_has(s->kernel, spi_in);
	if (spi_in % esp_set_divisor(s) != at)
		return false;
	taken = esp_spi_taken(enter(s, at), spi_in);
	leave(s, at);
	return !taken;
}

bool esp_set_may_echo(struct esp_set *s, uint32_t call, const uint8_t peer[16])
{
	unsigned at = esp_set_shard(s, call);
	bool may = esp_plane_may_echo(enter(s, at), call, peer);

	leave(s, at);
	return may;
}

bool esp_set_echo(struct esp_set *s, uint32_t call, const uint8_t peer[16], unsigned size, uint8_t *buf,
		  struct esp_packet *ret)
{
	unsigned at = esp_set_shard(s, call);
	bool sent = esp_plane_echo(enter(s, at), call, peer, size, ret);

	if (sent) {
		memcpy(buf, ret->p, ret->len);
		ret->p = buf;
		s->paths[0] = *ret->path;
		ret->path = &s->paths[0];
	}
	leave(s, at);
	return sent;
}

bool esp_set_call_counters(struct esp_set *s, uint32_t call, struct esp_counters *ret)
{
	unsigned at = esp_set_shard(s, call);
	struct esp_counters here = { .packets_in = 0 };
	bool there = esp_call_counters(enter(s, at), call, &here);

	leave(s, at);
	if (s->kernel && esp_kernel_call_counters(s->kernel, call, &here))
		there = true;
	if (there)
		*ret = here;
	return there;
}

/* ---- of all ---- */

bool esp_set_poll_echo(struct esp_set *s, uint32_t *ret_call, unsigned *ret_size)
{
	bool found = false;

	for (unsigned i = 0; !found && i < s->n; i++) {
		if (!has_news(s, i, &s->may_echo_news[i]))
			continue;
		found = s->may_echo_news[i] = esp_plane_poll_echo(enter(s, i), ret_call, ret_size);
		leave(s, i);
	}
	return found;
}

bool esp_set_poll_due(struct esp_set *s, struct esp_due *ret)
{
	bool found = s->kernel && esp_kernel_poll_due(s->kernel, ret);

	for (unsigned i = 0; !found && i < s->n; i++) {
		if (!has_news(s, i, &s->may_be_due[i]))
			continue;
		found = s->may_be_due[i] = esp_plane_poll_due(enter(s, i), ret);
		leave(s, i);
	}
	return found;
}

void esp_set_counters(struct esp_set *s, struct esp_counters *ret)
{
	*ret = (struct esp_counters){ .packets_in = 0 };
	for (unsigned i = 0; i < s->n; i++) {
		esp_counters_add(ret, esp_plane_counters(enter(s, i)));
		leave(s, i);
	}
	if (s->kernel)
		esp_kernel_counters(s->kernel, ret);
}

void esp_set_tick(struct esp_set *s, uint64_t now_us)
{
	for (unsigned i = 0; !s->hooks.own_time && i < s->n; i++) {
		esp_plane_tick(enter(s, i), now_us);
		leave(s, i);
	}
	if (s->kernel)
		esp_kernel_tick(s->kernel, now_us);
}

uint64_t esp_set_deadline_us(struct esp_set *s)
{
	uint64_t due = s->kernel ? esp_kernel_deadline_us(s->kernel) : TIME_NEVER;

	for (unsigned i = 0; !s->hooks.own_time && i < s->n; i++) {
		const struct esp_plane *p = enter(s, i);
		uint64_t t = esp_plane_has_due(p) ? 0 : esp_plane_deadline_us(p);

		due = t < due ? t : due;
		leave(s, i);
	}
	return due;
}

bool esp_set_poll_kernel(struct esp_set *s, struct esp_kernel_request *ret)
{
	return s->kernel && esp_kernel_poll(s->kernel, ret);
}

void esp_set_kernel_done(struct esp_set *s, uint64_t now_us, const struct esp_kernel_request *rq, enum err e,
			 const struct esp_kernel_count *counts)
{
	esp_kernel_done(s->kernel, now_us, rq, e, counts);
}

bool esp_set_poll_failed(struct esp_set *s, uint32_t *ret_call)
{
	return s->kernel && esp_kernel_poll_failed(s->kernel, ret_call);
}

/* ---- packets ---- */

unsigned esp_set_input(struct esp_set *s, uint64_t now_us, struct esp_packet *in, unsigned n,
		       struct esp_packet out[ESP_BATCH])
{
	unsigned n_out = 0;

	for (unsigned i = 0, len; i < n; i += len) {
		struct esp_head head = { .spi = 0 };
		unsigned at;

		(void)!esp_packet_head(span_of(in[i].p, in[i].len), &head); /* too short: dropped and counted there */
		/* what is the kernel's and came here, in the train of another, no plane has an SA for */
		at = head.spi % esp_set_divisor(s) % s->n;
		len = s->n == 1 ? n : 1;
		n_out += esp_plane_input(enter(s, at), now_us, in + i, len, out + n_out);
		news(s, at);
		leave(s, at);
	}
	return n_out;
}

/* Which shard has an SA for it only the shards know; the others count it as nobody's. */
static unsigned output_alone(struct esp_set *s, uint64_t now_us, struct esp_packet *in, unsigned n,
			     struct esp_packet *out)
{
	unsigned n_out = 0;

	assert(n <= ALONE_MAX);
	for (unsigned i = 0; !n_out && i < s->n; i++) {
		n_out = esp_plane_output(enter(s, i), now_us, in, n, out);
		news(s, i);
		for (unsigned k = 0; k < n_out; k++) {
			memcpy(s->copies[k], out[k].p, out[k].len);
			s->paths[k] = *out[k].path;
			out[k].p = s->copies[k];
			out[k].path = &s->paths[k];
		}
		leave(s, i);
	}
	return n_out;
}

unsigned esp_set_output(struct esp_set *s, uint64_t now_us, struct esp_packet *in, unsigned n,
			struct esp_packet out[ESP_BATCH_OUT])
{
	if (s->hooks.enter || s->n > 1)
		return output_alone(s, now_us, in, n, out);
	return esp_plane_output(s->plane[0], now_us, in, n, out);
}

bool esp_set_poll_inner(struct esp_set *s, struct esp_packet *ret)
{
	bool found = false;

	for (unsigned i = 0; !found && i < s->n; i++) {
		found = esp_plane_poll_inner(enter(s, i), ret);
		if (found) {
			memcpy(s->told, ret->p, ret->len);
			ret->p = s->told;
		}
		leave(s, i);
	}
	return found;
}
