/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Streams: opening, framing (RFC 3261, 18.3), keepalive (RFC 5626, 4.4.1). */
#include <stdlib.h>
#include <string.h>
#include "sip/ua_impl.h"

/* A message and what of the next one came along; a stream that sends more before it makes sense is closed. */
#define BUF_MAX (SIP_MSG_MAX + 1)

static struct ua_stream *stream_find(const struct sip_ua *ua, uint64_t number)
{
	for (struct ua_stream *s = ua->streams; s; s = s->next)
		if (s->number == number)
			return s;
	return NULL;
}

static void timer_fired(void *arg, uint64_t now_us)
{
	struct ua_stream *s = arg;
	struct sip_ua *ua = s->ua;

	if (s->waits_pong && s->ponged) {
		/* 4.4.1: no pong within 10 s, the flow is dead. Only from one that has answered before: others may not know it. */
		ua_stream_close(ua, now_us, s);
		return;
	}
	if (s->waits_pong) {
		s->waits_pong = false;
		ua_arm(ua, &s->timer, now_us + UA_PING_US - UA_PONG_US);
		return;
	}
	s->waits_pong = true;
	(void)!sip_txns_send(ua->txns, &s->path, SPAN_LIT("\r\n\r\n"));
	ua_arm(ua, &s->timer, now_us + UA_PONG_US);
}

static struct ua_stream *stream_new(struct sip_ua *ua, uint64_t number, const struct path *path)
{
	struct ua_stream *s;

	if (ua->n_streams >= UA_STREAMS_MAX)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->ua = ua;
	s->number = number;
	s->path = *path;
	s->timer.fire = timer_fired;
	s->timer.arg = s;
	s->next = ua->streams;
	ua->streams = s;
	ua->n_streams++;
	return s;
}

struct ua_stream *ua_stream_open(struct account *acc)
{
	struct sip_ua *ua = acc->ua;
	struct path path = {
		.transport = acc->transport == TRANSPORT_UDP ? TRANSPORT_TCP : acc->transport,
		.remote = acc->server,
		.stream = ++ua->n_streams_ever,
	};
	struct ua_stream *s = stream_new(ua, path.stream, &path);

	if (!s)
		return NULL;
	/* From where: the same address as the datagrams, any port. The loop says what it became. */
	path.local = acc->local;
	path.local.port = 0;
	s->acc = acc;
	if (sip_txns_open(ua->txns, &path) != OK) {
		ua_stream_free(ua, s);
		return NULL;
	}
	return s;
}

void ua_stream_free(struct sip_ua *ua, struct ua_stream *s)
{
	for (struct ua_stream **at = &ua->streams; *at; at = &(*at)->next)
		if (*at == s) {
			*at = s->next;
			break;
		}
	if (s->acc && s->acc->stream == s)
		s->acc->stream = NULL;
	if (s->acc && s->acc->aux == s)
		s->acc->aux = NULL;
	timer_disarm(ua->timers, &s->timer);
	free(s->buf);
	free(s);
	ua->n_streams--;
}

/* The stream is no more: what was under way on it fails. */
static void lost(struct sip_ua *ua, uint64_t now_us, struct ua_stream *s)
{
	struct account *acc = s->acc;
	uint64_t number = s->number;
	bool main_one = acc && acc->stream == s;

	ua_stream_free(ua, s);
	sip_txns_stream_lost(ua->txns, now_us, number);
	ua_reqs_stream(ua, now_us, number, false);
	if (main_one)
		ua_register_flow_lost(acc, now_us);
}

void ua_stream_close(struct sip_ua *ua, uint64_t now_us, struct ua_stream *s)
{
	(void)!sip_txns_close(ua->txns, &s->path);
	lost(ua, now_us, s);
}

void sip_ua_stream(struct sip_ua *ua, uint64_t now_us, const struct path *path, enum stream_event ev)
{
	struct ua_stream *s = stream_find(ua, path->stream);

	if (path->transport == TRANSPORT_UDP || !path->stream)
		return;
	if (ev != STREAM_OPEN) {
		if (s)
			lost(ua, now_us, s);
		ua_pump(ua, now_us);
		return;
	}
	/* One that the loop accepted. At the limit it is left alone: its bytes find no stream. */
	if (!s)
		s = stream_new(ua, path->stream, path);
	if (s && !s->open) {
		s->path = *path;
		s->open = true;
		if (s->acc)
			ua_arm(ua, &s->timer, now_us + UA_PING_US);
		ua_reqs_stream(ua, now_us, s->number, true);
	}
	ua_pump(ua, now_us);
}

/* ---- bytes ---- */

static bool buf_add(struct ua_stream *s, struct span *bytes)
{
	size_t n = BUF_MAX - s->len < bytes->len ? BUF_MAX - s->len : bytes->len;

	if (s->len + n > s->cap) {
		size_t cap = s->cap ? s->cap : 4096;
		uint8_t *grown;

		while (cap < s->len + n)
			cap *= 2;
		grown = realloc(s->buf, cap);
		if (!grown)
			return false;
		s->buf = grown;
		s->cap = cap;
	}
	if (n)
		memcpy(s->buf + s->len, bytes->p, n);
	s->len += n;
	*bytes = span_from(*bytes, n);
	return true;
}

static void keepalive(struct sip_ua *ua, uint64_t now_us, struct ua_stream *s, bool ping)
{
	if (ping) {
		(void)!sip_txns_send(ua->txns, &s->path, SPAN_LIT("\r\n"));
		return;
	}
	if (s->waits_pong) {
		s->waits_pong = false;
		s->ponged = true;
		ua_arm(ua, &s->timer, now_us + UA_PING_US);
	}
}

/* Takes what is whole off the buffer. False: the stream is closed and gone. */
static bool frames(struct sip_ua *ua, uint64_t now_us, struct ua_stream *s)
{
	uint64_t number = s->number;
	struct path path = s->path;
	size_t at = 0, len;
	bool ping, go_on = true;

	while (go_on && at < s->len) {
		struct span rest = span_of(s->buf + at, s->len - at);

		len = 0;
		ping = false;
		switch (sip_frame(rest, &len, &ping)) {
		case SIP_FRAME_MESSAGE: ua_message(ua, now_us, &path, span_sub(rest, 0, len)); break;
		case SIP_FRAME_KEEPALIVE: keepalive(ua, now_us, s, ping); break;
		case SIP_FRAME_MORE: go_on = false; break;
		case SIP_FRAME_BAD: s->bad = true; break;
		}
		/* A message may have ended an account, and this stream with it. */
		if (stream_find(ua, number) != s)
			return false;
		if (s->bad || (!go_on && at == 0 && s->len == BUF_MAX)) {
			ua->stats.n_malformed++;
			ua_stream_close(ua, now_us, s);
			return false;
		}
		at += len;
	}
	s->len -= at;
	memmove(s->buf, s->buf + at, s->len);
	return true;
}

void ua_stream_input(struct sip_ua *ua, uint64_t now_us, const struct path *path, struct span bytes)
{
	struct ua_stream *s = stream_find(ua, path->stream);

	if (!s)
		return;
	/* Bytes cannot arrive on a stream that is not open: the loop's event is then still to come. */
	if (!s->open)
		sip_ua_stream(ua, now_us, path, STREAM_OPEN);
	while (bytes.len && (s = stream_find(ua, path->stream))) {
		if (!buf_add(s, &bytes)) {
			ua_stream_close(ua, now_us, s); /* without the memory the framing is lost */
			return;
		}
		if (!frames(ua, now_us, s))
			return;
	}
}
