/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "daemon/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/timers.h"

enum { FD_WAKE, FD_UDP4, FD_UDP6, FD_RAW4, FD_RAW6, FD_TUN, N_FDS = FD_TUN + WORKER_QUEUES };

enum err worker_init(struct worker *w)
{
	int pair[2];

	w->wake_fd = w->stray_fd = w->stray_out = -1;
	atomic_init(&w->pinging, false);
	atomic_init(&w->news, false);
	atomic_init(&w->wanted, 0);
	if (pthread_mutex_init(&w->lock, NULL) != 0 || pthread_cond_init(&w->left, NULL) != 0)
		return ERR_SYSTEM;
	w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->wake_fd < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return ERR_SYSTEM;
	w->stray_fd = pair[0];
	w->stray_out = pair[1];
	w->writes = calloc(WORKER_WRITES, sizeof(*w->writes));
	w->memory = net_buffers_new();
	return w->writes && w->memory ? OK : ERR_NOMEM;
}

/* ---- the lock ---- */

void worker_enter(struct worker *w)
{
	(void)atomic_fetch_add(&w->wanted, 1);
	(void)pthread_mutex_lock(&w->lock);
	(void)atomic_fetch_sub(&w->wanted, 1);
}

void worker_leave(struct worker *w)
{
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_cond_signal(&w->left);
}

/* A mutex is not fair, and would be the worker's again before another thread has woken up. Each of those that it waits for here
 * says so when it leaves. */
void worker_yield(struct worker *w)
{
	while (worker_wanted(w))
		(void)pthread_cond_wait(&w->left, &w->lock);
}

void worker_apart(struct worker *w)
{
	(void)pthread_mutex_unlock(&w->lock);
}

void worker_back(struct worker *w)
{
	(void)pthread_mutex_lock(&w->lock);
	worker_yield(w);
}

void worker_wake(struct worker *w)
{
	static const uint64_t one = 1;

	(void)!write(w->wake_fd, &one, sizeof(one));
}

/* ---- strays ---- */

void worker_stray_out(struct worker *w, const struct stray *s, struct span bytes)
{
	struct iovec iov[2] = { { .iov_base = (void *)(uintptr_t)s, .iov_len = sizeof(*s) },
				{ .iov_base = (void *)(uintptr_t)bytes.p, .iov_len = bytes.len } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

	if (sendmsg(w->stray_out, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		(void)atomic_fetch_add_explicit(&w->counters.strays_lost, 1, memory_order_relaxed);
}

bool worker_stray(struct worker *w, struct stray *ret, uint8_t *buf, size_t *ret_len)
{
	struct iovec iov[2] = { { .iov_base = ret, .iov_len = sizeof(*ret) },
				{ .iov_base = buf, .iov_len = VNET_PACKET_MAX } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n = recvmsg(w->stray_fd, &m, MSG_DONTWAIT);

	if (n < (ssize_t)sizeof(*ret))
		return false;
	*ret_len = (size_t)n - sizeof(*ret);
	return true;
}

/* ---- the thread ---- */

static uint64_t now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static int timeout_ms(uint64_t now, uint64_t due)
{
	if (due == TIME_NEVER)
		return -1;
	if (due <= now)
		return 0;
	return due - now > SECONDS(60) ? 60000 : (int)((due - now + 999) / 1000);
}

static void fds_of(const struct worker *w, struct pollfd fds[N_FDS])
{
	const int list[FD_TUN] = { w->wake_fd, w->udp_fd[0], w->udp_fd[1], w->raw_fd[0], w->raw_fd[1] };

	for (int i = 0; i < N_FDS; i++)
		fds[i] = (struct pollfd){ .fd = i < FD_TUN ? list[i] : w->tun_fd[i - FD_TUN], .events = POLLIN };
}

static void batch(struct worker *w, const struct pollfd fds[N_FDS])
{
	static const uint64_t one = 1;
	uint64_t now = now_us(), ignored;
	unsigned n_ready = 0;

	if (fds[FD_WAKE].revents)
		(void)!read(w->wake_fd, &ignored, sizeof(ignored));
	for (unsigned i = 0; i < 2; i++) {
		if (fds[FD_UDP4 + i].revents)
			worker_net_in(w, now, i);
		if (fds[FD_RAW4 + i].revents)
			worker_raw_in(w, now, i);
	}
	for (unsigned i = 0; i < WORKER_QUEUES; i++)
		n_ready += fds[FD_TUN + i].revents != 0;
	for (unsigned i = 0; i < WORKER_QUEUES; i++)
		if (fds[FD_TUN + i].revents)
			worker_tun_in(w, now, i, n_ready);
	if (esp_plane_deadline_us(w->plane) <= now)
		esp_plane_tick(w->plane, now);
	if (esp_plane_has_news(w->plane)) {
		atomic_store(&w->news, true);
		(void)!write(w->tell_fd, &one, sizeof(one));
	}
}

static void *run(void *arg)
{
	struct worker *w = arg;
	struct pollfd fds[N_FDS];

	(void)pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		int timeout = timeout_ms(now_us(), esp_plane_deadline_us(w->plane));

		fds_of(w, fds);
		worker_apart(w);
		if (poll(fds, N_FDS, timeout) < 0)
			memset(fds, 0, sizeof(fds));
		worker_back(w);
		if (!w->stop)
			batch(w, fds);
	}
	(void)pthread_mutex_unlock(&w->lock);
	return NULL;
}

enum err worker_start(struct worker *w)
{
	sigset_t all, before;
	int failed;

	for (int i = 0; i < 2; i++)
		w->sender[i].fd = w->udp_fd[i];
	/* signals are the engine's */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&w->thread, NULL, run, w);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->started = !failed;
	return failed ? ERR_SYSTEM : OK;
}

void worker_done(struct worker *w)
{
	if (w->started) {
		worker_enter(w);
		w->stop = true;
		worker_leave(w);
		worker_wake(w);
		(void)pthread_join(w->thread, NULL);
	}
	(void)pthread_mutex_destroy(&w->lock);
	(void)pthread_cond_destroy(&w->left);
	for (int i = 0; i < 3; i++) {
		int fd = i == 0 ? w->wake_fd : i == 1 ? w->stray_fd : w->stray_out;

		if (fd >= 0)
			(void)close(fd);
	}
	free(w->writes);
	net_buffers_free(w->memory);
	memset(w, 0, sizeof(*w));
}
