/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/loop.h"

#include <event2/event.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/timers.h"

#define SLICE_NS 100000 /* the shortest that the kernel takes */

struct loop_fd {
	struct loop *loop;
	struct event *ev; /* NULL: paused */
	int fd, events;
	void (*ready)(void *arg, int fd, int events);
	void *arg;
};

struct loop_sig {
	struct loop_sig *next;
	struct event *ev;
	void (*fired)(void *arg, int signo);
	void *arg;
};

struct deferred {
	struct deferred *next;
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	struct event_base *base;
	struct event *wake; /* the deadline */
	struct timers *timers;
	struct loop_hooks hooks;
	struct loop_sig *signals;
	struct deferred *first, **last;
	bool stopped;
};

static void woken(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg; /* loop_run() looks at the clock after each round */
}

enum err loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return ERR_NOMEM;
	l->last = &l->first;
	l->timers = timers_new();
	l->base = event_base_new();
	if (l->base)
		l->wake = event_new(l->base, -1, 0, woken, NULL);
	if (!l->timers || !l->wake) {
		loop_free(l);
		return ERR_NOMEM;
	}
	*ret = l;
	return OK;
}

static void run_deferred(struct loop *l)
{
	while (l->first) {
		struct deferred *d = l->first;

		l->first = d->next;
		if (!l->first)
			l->last = &l->first;
		d->fn(d->arg);
		free(d);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	run_deferred(l);
	while (l->signals) {
		struct loop_sig *s = l->signals;

		l->signals = s->next;
		event_free(s->ev);
		free(s);
	}
	if (l->wake)
		event_free(l->wake);
	if (l->base)
		event_base_free(l->base);
	timers_free(l->timers);
	free(l);
}

uint64_t loop_now_us(const struct loop *l)
{
	struct timespec ts;

	(void)l;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

int64_t loop_wall_s(void)
{
	return (int64_t)time(NULL);
}

struct timers *loop_timers(struct loop *l)
{
	return l->timers;
}

/* ---- descriptors ---- */

static void fd_ready(evutil_socket_t fd, short what, void *arg)
{
	struct loop_fd *f = arg;

	/* the last use of f: it may free itself here */
	f->ready(f->arg, (int)fd, (what & EV_READ ? LOOP_READ : 0) | (what & EV_WRITE ? LOOP_WRITE : 0));
}

enum err loop_fd_set(struct loop_fd *f, int events)
{
	struct event *ev = NULL;
	short what = (short)(EV_PERSIST | (events & LOOP_READ ? EV_READ : 0) | (events & LOOP_WRITE ? EV_WRITE : 0));

	if (events == f->events)
		return OK;
	if (f->ev)
		event_free(f->ev);
	f->ev = NULL;
	f->events = 0;
	if (events) {
		ev = event_new(f->loop->base, f->fd, what, fd_ready, f);
		if (!ev)
			return ERR_NOMEM;
		if (event_add(ev, NULL) < 0) {
			event_free(ev);
			return ERR_SYSTEM;
		}
	}
	f->ev = ev;
	f->events = events;
	return OK;
}

enum err loop_fd_add(struct loop *l, int fd, int events, void (*ready)(void *arg, int fd, int events), void *arg,
		     struct loop_fd **ret)
{
	struct loop_fd *f = calloc(1, sizeof(*f));
	enum err e;

	if (!f)
		return ERR_NOMEM;
	*f = (struct loop_fd){ .loop = l, .fd = fd, .ready = ready, .arg = arg };
	e = loop_fd_set(f, events);
	if (e != OK) {
		free(f);
		return e;
	}
	*ret = f;
	return OK;
}

void loop_fd_free(struct loop_fd *f)
{
	if (!f)
		return;
	if (f->ev)
		event_free(f->ev); /* also when it is due later in this round: it does not fire then */
	free(f);
}

/* ---- signals, hooks ---- */

static void signal_fired(evutil_socket_t signo, short what, void *arg)
{
	struct loop_sig *s = arg;

	(void)what;
	s->fired(s->arg, (int)signo);
}

enum err loop_signal(struct loop *l, int signo, void (*fired)(void *arg, int signo), void *arg)
{
	struct loop_sig *s = calloc(1, sizeof(*s));

	if (!s)
		return ERR_NOMEM;
	*s = (struct loop_sig){ .next = l->signals, .fired = fired, .arg = arg };
	s->ev = event_new(l->base, signo, EV_SIGNAL | EV_PERSIST, signal_fired, s);
	if (!s->ev || event_add(s->ev, NULL) < 0) {
		if (s->ev)
			event_free(s->ev);
		free(s);
		return ERR_SYSTEM;
	}
	l->signals = s;
	return OK;
}

void loop_hooks_set(struct loop *l, const struct loop_hooks *h)
{
	l->hooks = *h;
}

enum err loop_defer(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct deferred *d = malloc(sizeof(*d));

	if (!d)
		return ERR_NOMEM;
	*d = (struct deferred){ .fn = fn, .arg = arg };
	*l->last = d;
	l->last = &d->next;
	return OK;
}

static uint64_t hooks_deadline(const struct loop *l)
{
	return l->hooks.tick && l->hooks.deadline ? l->hooks.deadline(l->hooks.arg) : TIME_NEVER;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Waits for events, but not past due, and runs their callbacks. */
static enum err wait_round(struct loop *l, uint64_t due)
{
	uint64_t now = loop_now_us(l), left;
	struct timeval tv;
	int got;

	if (due <= now) {
		/* without ONCE it would go on as long as anything is ready, and nothing else would have its turn */
		got = event_base_loop(l->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		return got < 0 ? ERR_SYSTEM : OK;
	}
	if (due == TIME_NEVER) {
		(void)event_del(l->wake);
	} else {
		left = min_u64(due - now, SECONDS(3600));
		tv = (struct timeval){ .tv_sec = (time_t)(left / 1000000u), .tv_usec = (suseconds_t)(left % 1000000u) };
		if (event_add(l->wake, &tv) < 0)
			return ERR_SYSTEM;
	}
	got = event_base_loop(l->base, EVLOOP_ONCE);
	return got < 0 ? ERR_SYSTEM : got > 0 ? ERR_WRONG_STATE : OK;
}

enum err loop_run(struct loop *l)
{
	enum err e = OK;

	while (!l->stopped && e == OK) {
		uint64_t now;

		if (l->hooks.idle)
			l->hooks.idle(l->hooks.arg);
		run_deferred(l);
		if (l->stopped)
			break;
		e = wait_round(l, min_u64(hooks_deadline(l), timers_deadline_us(l->timers)));
		now = loop_now_us(l);
		timers_run(l->timers, now);
		if (hooks_deadline(l) <= now)
			l->hooks.tick(l->hooks.arg, now);
		run_deferred(l);
	}
	l->stopped = false;
	return e;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}

struct event_base *loop_base(struct loop *l)
{
	return l->base;
}

void loop_prompt(void)
{
	struct sched_attr a = { .size = sizeof(a),
				.sched_policy = SCHED_NORMAL,
				.sched_flags = SCHED_FLAG_RESET_ON_FORK,
				.sched_runtime = SLICE_NS };

	(void)syscall(SYS_sched_setattr, 0, &a, 0);
}
