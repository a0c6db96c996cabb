/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/timers.h"
#include "net/stream.h"
#include "harness.h"

/* ---- the loop ---- */

struct log_of_calls {
	struct loop *loop;
	char text[64];
	int fd;
	struct loop_fd *watch;
	uint64_t due_us;
	struct timer timer;
};

static void note(struct log_of_calls *c, char what)
{
	size_t len = strlen(c->text);

	if (len + 1 < sizeof(c->text))
		c->text[len] = what;
}

static void tick(void *arg, uint64_t now_us)
{
	struct log_of_calls *c = arg;

	assert_true(now_us >= c->due_us);
	note(c, 't');
	c->due_us = TIME_NEVER;
	loop_stop(c->loop);
}

static uint64_t deadline(void *arg)
{
	return ((struct log_of_calls *)arg)->due_us;
}

static void later(void *arg)
{
	note(arg, 'd');
}

static void readable(void *arg, int fd, int events)
{
	struct log_of_calls *c = arg;
	char byte;

	assert_int_equal(events, LOOP_READ);
	assert_int_equal(read(fd, &byte, 1), 1);
	note(c, byte);
	loop_fd_free(c->watch); /* inside its own callback */
	c->watch = NULL;
	assert_int_equal(loop_defer(c->loop, later, c), OK);
	c->due_us = loop_now_us(c->loop) + MS(5);
}

static void timer_fired(void *arg, uint64_t now_us)
{
	struct log_of_calls *c = arg;

	assert_true(now_us >= c->timer.due_us);
	note(c, 'T');
	assert_int_equal(write(c->fd, "r", 1), 1);
}

static void signalled(void *arg, int signo)
{
	assert_int_equal(signo, SIGUSR1);
	note(arg, 's');
	loop_stop(((struct log_of_calls *)arg)->loop);
}

static void loop_order(void **state)
{
	struct log_of_calls c = { .due_us = TIME_NEVER };
	struct loop_hooks hooks = { .tick = tick, .deadline = deadline, .arg = &c };
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(loop_new(&c.loop), OK);
	assert_int_equal(loop_run(c.loop), ERR_WRONG_STATE); /* nothing could ever happen */
	c.fd = pair[1];
	c.timer = (struct timer){ .fire = timer_fired, .arg = &c };
	loop_hooks_set(c.loop, &hooks);
	assert_int_equal(timer_arm(loop_timers(c.loop), &c.timer, loop_now_us(c.loop) + MS(5)), OK);
	assert_int_equal(loop_fd_add(c.loop, pair[0], 0, readable, &c, &c.watch), OK);
	assert_int_equal(loop_fd_set(c.watch, LOOP_READ | LOOP_WRITE), OK);
	assert_int_equal(loop_fd_set(c.watch, LOOP_READ), OK);
	assert_int_equal(loop_run(c.loop), OK);
	assert_string_equal(c.text, "Trdt");
	assert_int_equal(loop_signal(c.loop, SIGUSR1, signalled, &c), OK);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(loop_run(c.loop), OK);
	assert_string_equal(c.text, "Trdts");
	assert_int_equal(loop_defer(c.loop, later, &c), OK);
	loop_free(c.loop);
	assert_string_equal(c.text, "Trdtsd");
	assert_true(loop_wall_s() > 1600000000);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

/* ---- two ends of streams on loopback ---- */

#define FIRST 1000000

struct side {
	struct streams *streams;
	struct path path; /* of the last event or input */
	unsigned n_open, n_closed, n_failed;
	size_t n_in;
	uint8_t sum;
	bool echo, from_inside;
};

static struct loop *loop;
static struct side a, b; /* a connects, b listens */
static bool (*done)(void);
static bool late;

static void output(struct side *s, enum out_kind kind, uint64_t stream, const struct addr *to, struct span bytes)
{
	struct out o = { .kind = kind, .path = { .transport = TRANSPORT_TCP, .stream = stream }, .bytes = bytes };

	if (to)
		o.path.remote = *to;
	s->from_inside = true;
	streams_output(s->streams, &o);
	s->from_inside = false;
}

static void on_input(void *arg, const struct path *path, struct span bytes)
{
	struct side *s = arg;

	assert_false(s->from_inside);
	s->path = *path;
	s->n_in += bytes.len;
	for (size_t i = 0; i < bytes.len; i++)
		s->sum = (uint8_t)(s->sum + bytes.p[i]);
	if (s->echo)
		output(s, OUT_SEND, path->stream, NULL, bytes);
}

static void on_event(void *arg, const struct path *path, enum stream_event ev)
{
	struct side *s = arg;

	assert_false(s->from_inside);
	s->path = *path;
	s->n_open += ev == STREAM_OPEN;
	s->n_closed += ev == STREAM_CLOSED;
	s->n_failed += ev == STREAM_FAILED;
}

static void check_done(void *arg)
{
	(void)arg;
	if (done())
		loop_stop(loop);
}

static void too_late(void *arg, uint64_t now_us)
{
	(void)arg;
	(void)now_us;
	late = true;
	loop_stop(loop);
}

/* Runs until cond, but not over ms; returns whether it came. */
static bool run_until(bool (*cond)(void), uint64_t ms)
{
	struct loop_hooks hooks = { .idle = check_done };
	struct timer limit = { .fire = too_late };

	done = cond;
	late = false;
	loop_hooks_set(loop, &hooks);
	assert_int_equal(timer_arm(loop_timers(loop), &limit, loop_now_us(loop) + MS(ms)), OK);
	assert_int_equal(loop_run(loop), OK);
	timer_disarm(loop_timers(loop), &limit);
	return !late;
}

static struct addr begin(unsigned max_streams, uint32_t idle_s)
{
	struct addr any = addr_ip4(0x7f000001, 0), local;
	struct streams_config cfg = { .max_streams = max_streams,
				      .first_number = FIRST,
				      .idle_s = idle_s,
				      .input = on_input,
				      .event = on_event };
	int fd;

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	assert_int_equal(loop_new(&loop), OK);
	cfg.loop = loop;
	cfg.arg = &a;
	assert_int_equal(streams_new(&cfg, &a.streams), OK);
	cfg.arg = &b;
	assert_int_equal(streams_new(&cfg, &b.streams), OK);
	assert_int_equal(tcp_listen(&any, &fd, &local), OK);
	assert_int_equal(tcp_listen(&local, &(int){ -1 }, &any), ERR_WRONG_STATE);
	assert_int_equal(streams_listen(b.streams, fd, TRANSPORT_TCP), OK);
	return local;
}

static void end(void)
{
	streams_free(a.streams);
	streams_free(b.streams);
	loop_free(loop);
}

static bool both_open(void)
{
	return a.n_open == 1 && b.n_open == 1;
}
static bool both_closed(void)
{
	return a.n_closed == 1 && b.n_closed == 1;
}
static bool a_failed(void)
{
	return a.n_failed == 1;
}
static bool a_closed(void)
{
	return a.n_closed == 1;
}
static bool b_closed(void)
{
	return b.n_closed == 1;
}
static bool b_got_5(void)
{
	return b.n_in == 5;
}
static bool b_got_10(void)
{
	return b.n_in == 10;
}
static bool never(void)
{
	return false;
}
static bool echoed(void)
{
	return a.n_in == STREAM_QUEUE_MAX;
}

static void open_send_close(void **state)
{
	struct addr to = begin(8, 0);

	(void)state;
	output(&a, OUT_OPEN, 1, &to, SPAN_NONE);
	output(&a, OUT_SEND, 1, &to, SPAN_LIT("hello")); /* waits for the connection */
	assert_true(run_until(b_got_5, 5000));
	assert_true(both_open());
	assert_int_equal(a.path.stream, 1);
	assert_int_equal(a.path.transport, TRANSPORT_TCP);
	assert_int_not_equal(a.path.local.port, 0);
	assert_true(addr_eq(&a.path.remote, &to));
	assert_int_equal(b.path.stream, FIRST);
	assert_true(addr_eq(&b.path.remote, &a.path.local));
	assert_true(addr_eq(&b.path.local, &to));
	output(&a, OUT_SEND, 1, &to, SPAN_LIT("world"));
	output(&a, OUT_CLOSE, 1, &to, SPAN_NONE); /* what was sent before still arrives */
	assert_true(run_until(both_closed, 5000));
	assert_int_equal(b.n_in, 10);
	output(&a, OUT_SEND, 1, &to, SPAN_LIT("late")); /* nobody has this number any more */
	output(&a, OUT_CLOSE, 1, &to, SPAN_NONE);
	assert_false(run_until(never, 20));
	assert_int_equal(a.n_failed + b.n_failed, 0);
	end();
}

static void refused(void **state)
{
	struct addr to = begin(8, 0), nobody = { .family = ADDR_NONE };
	struct out tls = { .kind = OUT_OPEN, .path = { .transport = TRANSPORT_TLS, .stream = 9, .remote = to } };

	(void)state;
	streams_free(b.streams);
	b.streams = NULL;
	output(&a, OUT_OPEN, 1, &to, SPAN_NONE);
	assert_true(run_until(a_failed, 5000));
	assert_int_equal(a.path.stream, 1);
	a.n_failed = 0;
	output(&a, OUT_OPEN, 2, &nobody, SPAN_NONE);
	assert_true(run_until(a_failed, 5000));
	assert_int_equal(a.path.stream, 2);
	a.n_failed = 0;
	streams_output(a.streams, &tls);
	assert_true(run_until(a_failed, 5000));
	assert_int_equal(a.path.stream, 9);
	assert_int_equal(a.n_open + a.n_closed, 0);
	end();
}

/* OUT_SEND without a number uses a stream that is there, or opens one. */
static void send_anywhere(void **state)
{
	struct addr to = begin(8, 0);

	(void)state;
	output(&a, OUT_SEND, 0, &to, SPAN_LIT("hello"));
	assert_true(run_until(b_got_5, 5000));
	output(&a, OUT_SEND, 0, &to, SPAN_LIT("world"));
	assert_true(run_until(b_got_10, 5000));
	assert_true(both_open());
	assert_int_equal(a.path.stream, FIRST);
	end();
}

/* Everything that fits the queue comes through, also against a full socket; more closes the stream. */
static void bounded(void **state)
{
	struct addr to = begin(8, 0);
	static uint8_t big[STREAM_QUEUE_MAX];

	(void)state;
	memset(big, 3, sizeof(big));
	b.echo = true;
	output(&a, OUT_OPEN, 1, &to, SPAN_NONE);
	for (size_t at = 0; at < sizeof(big); at += 4096) /* all before it is connected */
		output(&a, OUT_SEND, 1, &to, span_of(big + at, 4096));
	assert_true(run_until(echoed, 5000));
	assert_int_equal(a.sum, (uint8_t)(3u * STREAM_QUEUE_MAX));
	assert_int_equal(a.n_closed + b.n_closed, 0);
	output(&a, OUT_OPEN, 2, &to, SPAN_NONE);
	output(&a, OUT_SEND, 2, &to, SPAN_OF(big));
	output(&a, OUT_SEND, 2, &to, SPAN_LIT("x"));
	assert_true(run_until(a_failed, 5000)); /* it had not been open */
	for (int i = 0; i < 200; i++) /* b does not run: it does not read */
		output(&a, OUT_SEND, 1, &to, SPAN_OF(big));
	assert_true(run_until(a_closed, 5000));
	assert_int_equal(a.path.stream, 1);
	end();
}

static void idle_and_limit(void **state)
{
	struct addr to = begin(1, 1);

	(void)state;
	output(&a, OUT_OPEN, 1, &to, SPAN_NONE);
	assert_true(run_until(both_open, 5000));
	output(&a, OUT_OPEN, 2, &to, SPAN_NONE); /* over max_streams */
	assert_true(run_until(a_failed, 5000));
	assert_true(run_until(b_closed, 5000)); /* accepted, silent for 1 s */
	assert_true(run_until(both_closed, 5000));
	end();
}

/* A stranger's connection over the limit is closed, the others stay. */
static void accept_limit(void **state)
{
	struct addr to = begin(1, 0);
	struct streams_config cfg = { .loop = loop, .max_streams = 8, .input = on_input, .event = on_event, .arg = &a };

	(void)state;
	streams_free(a.streams);
	assert_int_equal(streams_new(&cfg, &a.streams), OK);
	output(&a, OUT_OPEN, 1, &to, SPAN_NONE);
	assert_true(run_until(both_open, 5000));
	output(&a, OUT_OPEN, 2, &to, SPAN_NONE);
	assert_true(run_until(a_closed, 5000));
	assert_int_equal(a.path.stream, 2);
	assert_int_equal(b.n_open, 1);
	output(&a, OUT_SEND, 1, &to, SPAN_LIT("still"));
	assert_true(run_until(b_got_5, 5000));
	end();
}

static bool ladder(void *arg)
{
	struct addr any = addr_ip4(0x7f000001, 0), local;
	struct streams_config cfg = { .max_streams = 4, .first_number = FIRST, .input = on_input, .event = on_event };
	int fd = -1;
	bool whole = false;

	(void)arg;
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	loop = NULL;
	if (loop_new(&loop) != OK)
		return false;
	cfg.loop = loop;
	cfg.arg = &a;
	if (streams_new(&cfg, &a.streams) != OK)
		goto out;
	cfg.arg = &b;
	if (streams_new(&cfg, &b.streams) != OK)
		goto out;
	assert_int_equal(tcp_listen(&any, &fd, &local), OK);
	if (streams_listen(b.streams, fd, TRANSPORT_TCP) != OK) {
		(void)close(fd);
		goto out;
	}
	output(&a, OUT_OPEN, 1, &local, SPAN_NONE);
	output(&a, OUT_SEND, 1, &local, SPAN_LIT("hello"));
	for (int i = 0; i < 50 && !b_got_5(); i++) {
		struct loop_hooks hooks = { .idle = check_done };
		struct timer limit = { .fire = too_late };

		done = b_got_5;
		loop_hooks_set(loop, &hooks);
		if (timer_arm(loop_timers(loop), &limit, loop_now_us(loop) + MS(20)) != OK || loop_run(loop) != OK)
			break;
		timer_disarm(loop_timers(loop), &limit);
		if (a.n_failed || a.n_closed || b.n_closed)
			break;
		if (!a.n_open && i > 1)
			break;
	}
	whole = b_got_5();
out:
	streams_free(a.streams);
	streams_free(b.streams);
	loop_free(loop);
	return whole;
}

static void out_of_memory(void **state)
{
	(void)state;
	harness_alloc_ladder(ladder, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loop_order),    cmocka_unit_test(open_send_close), cmocka_unit_test(refused),
		cmocka_unit_test(send_anywhere), cmocka_unit_test(bounded),         cmocka_unit_test(idle_and_limit),
		cmocka_unit_test(accept_limit),  cmocka_unit_test(out_of_memory),
	};

	return HARNESS_RUN(tests);
}
