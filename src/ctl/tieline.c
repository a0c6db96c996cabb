/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "tieline/tieline.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_PATH "/run/tieline/control"

struct tieline {
	int fd;
	size_t len, taken; /* bytes in buf, and of the line handed out last */
	char buf[TIELINE_LINE_MAX + 1];
};

int tieline_open(const char *path, struct tieline **ret)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct tieline *t;
	int e;

	if (!path)
		path = getenv("TIELINE_CONTROL");
	if (!path || !*path)
		path = DEFAULT_PATH;
	if (strlen(path) >= sizeof(un.sun_path))
		return ENAMETOOLONG;
	memcpy(un.sun_path, path, strlen(path));
	t = calloc(1, sizeof(*t));
	if (!t)
		return ENOMEM;
	t->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (t->fd < 0 || connect(t->fd, (const struct sockaddr *)&un, sizeof(un)) < 0) {
		e = errno;
		tieline_close(t);
		return e;
	}
	*ret = t;
	return 0;
}

void tieline_close(struct tieline *t)
{
	if (!t)
		return;
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

int tieline_fd(const struct tieline *t)
{
	return t->fd;
}

static int send_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EPIPE || errno == ECONNRESET ? EPIPE : errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int tieline_send(struct tieline *t, const char *json)
{
	size_t len = strlen(json);
	int e;

	if (len >= TIELINE_LINE_MAX)
		return EMSGSIZE;
	if (memchr(json, '\n', len))
		return EINVAL;
	e = send_all(t->fd, json, len);
	return e ? e : send_all(t->fd, "\n", 1);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int fill(struct tieline *t, int64_t until_ms)
{
	for (;;) {
		struct pollfd p = { .fd = t->fd, .events = POLLIN };
		int64_t left = until_ms < 0 ? -1 : until_ms - now_ms();
		int n = poll(&p, 1, until_ms < 0 ? -1 : left > 0 ? (int)left : 0);
		ssize_t got;

		if (n < 0 && errno == EINTR)
			return EINTR;
		if (n < 0)
			return errno;
		if (!n)
			return EAGAIN;
		got = recv(t->fd, t->buf + t->len, TIELINE_LINE_MAX - t->len, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 && errno != ECONNRESET ? errno : EPIPE;
		t->len += (size_t)got;
		return 0;
	}
}

int tieline_next(struct tieline *t, int timeout_ms, const char **ret)
{
	int64_t until = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;

	memmove(t->buf, t->buf + t->taken, t->len - t->taken);
	t->len -= t->taken;
	t->taken = 0;
	for (;;) {
		char *end = memchr(t->buf, '\n', t->len);
		int e;

		if (end) {
			*end = 0;
			t->taken = (size_t)(end - t->buf) + 1;
			*ret = t->buf;
			return 0;
		}
		if (t->len == TIELINE_LINE_MAX)
			return EMSGSIZE;
		e = fill(t, until);
		if (e)
			return e;
	}
}
