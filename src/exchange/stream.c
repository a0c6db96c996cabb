/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/stream.c - streams: framing (RFC 3261, 18.3), keepalive (RFC 5626, 4.4.1), and whom a stream stands for. */
#include <stdlib.h>
#include <string.h>

#include "exchange/impl.h"

#define BUF_FIRST 4096
#define BUF_MAX (SIP_MSG_MAX + 1) /* one byte more than a message: what still makes no sense then never will */

static struct span key_of(const uint64_t *number)
{
	return span_of(number, sizeof(*number));
}

struct stream *conn_of(const struct exchange *x, const struct path *path)
{
	return path->transport == TRANSPORT_UDP ? NULL : table_find(x->streams, key_of(&path->stream));
}

static void stream_free(struct stream *s)
{
	struct exchange *x = s->x;

	(void)table_take(x->streams, key_of(&s->path.stream));
	timer_disarm(x->timers, &s->timer);
	if (s->prev)
		s->prev->next = s->next;
	else
		x->newest = s->next;
	if (s->next)
		s->next->prev = s->prev;
	x->n_streams--;
	x->n_buffered -= s->cap;
	free(s->buf);
	free(s);
}

static void lost(struct stream *s, uint64_t now_us)
{
	struct exchange *x = s->x;
	uint64_t number = s->path.stream;

	stream_free(s);
	registrar_stream_lost(x, number);
	sip_txns_stream_lost(x->txns, now_us, number);
	context_stream_lost(x, now_us, number);
}

static void stream_close(struct stream *s, uint64_t now_us)
{
	s->x->stats.n_streams_closed++;
	(void)!sip_txns_close(s->x->txns, &s->path);
	lost(s, now_us);
}

static void stranger_fired(void *arg, uint64_t now_us)
{
	struct stream *s = arg;

	if (!s->known)
		stream_close(s, now_us);
}

/* The oldest stream of the user who has most of them, if that is more than devices need. */
static struct stream *crowded(const struct exchange *x)
{
	unsigned n[EXCHANGE_USERS_MAX + 1] = { 0 }, most = 0; /* [0]: known by a token only */
	struct stream *oldest = NULL;

	for (struct stream *s = x->newest; s; s = s->next)
		if (++n[s->user + 1] > n[most])
			most = (unsigned)(s->user + 1);
	if (n[most] <= EXCHANGE_USER_STREAMS)
		return NULL;
	for (struct stream *s = x->newest; s; s = s->next)
		if ((unsigned)(s->user + 1) == most)
			oldest = s;
	return oldest;
}

/* Room for one more: strangers go before it is refused, and then those of a user who takes it from all others. */
static bool make_room(struct exchange *x, uint64_t now_us)
{
	struct stream *oldest = NULL;

	if (x->n_streams < EXCHANGE_STREAMS_MAX)
		return true;
	for (struct stream *s = x->newest; s; s = s->next)
		if (!s->known)
			oldest = s;
	if (!oldest)
		oldest = crowded(x);
	if (oldest)
		stream_close(oldest, now_us);
	return oldest != NULL;
}

static struct stream *stream_new(struct exchange *x, uint64_t now_us, const struct path *path)
{
	struct stream *s;

	if (!path->stream || !make_room(x, now_us))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	*s = (struct stream){ .x = x, .path = *path, .user = -1 };
	s->timer.fire = stranger_fired;
	s->timer.arg = s;
	if (table_put(x->streams, key_of(&s->path.stream), s) != OK) {
		free(s);
		return NULL;
	}
	if (timer_arm(x->timers, &s->timer, now_us + EXCHANGE_STRANGER_US) != OK) {
		(void)table_take(x->streams, key_of(&s->path.stream));
		free(s);
		return NULL;
	}
	s->next = x->newest;
	if (s->next)
		s->next->prev = s;
	x->newest = s;
	x->n_streams++;
	return s;
}

void conn_known(struct exchange *x, const struct path *path, int user)
{
	struct stream *s = conn_of(x, path);

	if (!s)
		return;
	s->known = true;
	timer_disarm(x->timers, &s->timer);
	if (user >= 0)
		s->user = user;
}

void conns_free(struct exchange *x)
{
	for (struct stream *s = x->newest, *next; s; s = next) {
		next = s->next;
		stream_free(s);
	}
}

void exchange_stream(struct exchange *x, uint64_t now_us, const struct path *path, enum stream_event ev)
{
	struct stream *s = conn_of(x, path);

	if (path->transport == TRANSPORT_UDP)
		return;
	if (ev != STREAM_OPEN) {
		if (s)
			lost(s, now_us);
	} else if (!s && !stream_new(x, now_us, path)) {
		x->stats.n_streams_closed++;
		(void)!sip_txns_close(x->txns, path);
	}
	exchange_pump(x, now_us);
}

/* ---- bytes ---- */

static bool grow(struct stream *s, size_t want)
{
	size_t cap = s->cap ? s->cap : BUF_FIRST;
	uint8_t *p;

	while (cap < want)
		cap *= 2;
	if (cap > BUF_MAX)
		cap = BUF_MAX;
	if (cap == s->cap)
		return true;
	if (s->x->n_buffered + cap - s->cap > EXCHANGE_BUFFERED_MAX)
		return false;
	p = realloc(s->buf, cap);
	if (!p)
		return false;
	s->x->n_buffered += cap - s->cap;
	s->buf = p;
	s->cap = cap;
	return true;
}

static bool buf_add(struct stream *s, struct span *bytes)
{
	size_t n = BUF_MAX - s->len < bytes->len ? BUF_MAX - s->len : bytes->len;

	if (!grow(s, s->len + n))
		return false;
	if (n)
		memcpy(s->buf + s->len, bytes->p, n);
	s->len += n;
	*bytes = span_from(*bytes, n);
	return true;
}

/* Nothing is waiting: the memory goes back, as there may be many streams and few of them talk. */
static void buf_rest(struct stream *s, size_t at)
{
	s->len -= at;
	if (s->len) {
		memmove(s->buf, s->buf + at, s->len);
		return;
	}
	free(s->buf);
	s->buf = NULL;
	s->x->n_buffered -= s->cap;
	s->cap = 0;
}

/* Takes what is whole off the buffer. False: the stream is gone. */
static bool frames(struct stream *s, uint64_t now_us)
{
	struct exchange *x = s->x;
	struct path path = s->path;
	size_t at = 0, len = 0;
	bool ping, more = false;

	while (!more && at < s->len) {
		struct span rest = span_of(s->buf + at, s->len - at);

		len = 0;
		switch (sip_frame(rest, &len, &ping)) {
		case SIP_FRAME_MESSAGE:
			s->half_ping = false;
			exchange_message(x, now_us, &path, span_sub(rest, 0, len));
			exchange_pump(x, now_us);
			break;
		case SIP_FRAME_KEEPALIVE:
			/* One that came in two pieces: two single line ends in a row (sip_frame). */
			if (ping || s->half_ping)
				(void)!sip_txns_send(x->txns, &path, SPAN_LIT("\r\n"));
			s->half_ping = !ping && !s->half_ping;
			break;
		case SIP_FRAME_MORE: more = true; break;
		case SIP_FRAME_BAD: s->bad = true; break;
		}
		if (conn_of(x, &path) != s)
			return false;
		if (s->bad || (more && !at && s->len == BUF_MAX)) {
			x->stats.n_malformed++;
			stream_close(s, now_us);
			return false;
		}
		at += len;
	}
	buf_rest(s, at);
	return true;
}

void conn_input(struct exchange *x, uint64_t now_us, const struct path *path, struct span bytes)
{
	struct stream *s = conn_of(x, path);

	if (!s)
		s = stream_new(x, now_us, path);
	if (!s) {
		x->stats.n_streams_closed++;
		(void)!sip_txns_close(x->txns, path);
		return;
	}
	while (bytes.len) {
		if (!buf_add(s, &bytes)) {
			stream_close(s, now_us); /* without the memory the framing is lost */
			return;
		}
		if (!frames(s, now_us))
			return;
	}
}
