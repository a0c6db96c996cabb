/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/netlink.h"
#include "net/tun.h"

struct visit {
	int ns_fd;
	enum err (*fn)(void *arg);
	void *arg;
	enum err e;
};

static void *visit_run(void *arg)
{
	struct visit *v = arg;

	v->e = setns(v->ns_fd, CLONE_NEWNET) == 0 ? v->fn(v->arg) : errno == EPERM ? ERR_DENIED : ERR_SYSTEM;
	return NULL;
}

static enum err in_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg) != 0)
		return ERR_NOMEM;
	return pthread_join(thread, NULL) == 0 ? OK : ERR_SYSTEM;
}

enum err netns_run(int ns_fd, enum err (*fn)(void *arg), void *arg)
{
	struct visit v = { .ns_fd = ns_fd, .fn = fn, .arg = arg, .e = ERR_SYSTEM };
	enum err e;

	if (ns_fd < 0)
		return fn(arg);
	e = in_thread(visit_run, &v);
	return e == OK ? v.e : e;
}

/* ---- a new one ---- */

struct birth {
	int fd;
	enum err e;
};

static void *birth_run(void *arg)
{
	struct birth *b = arg;

	if (unshare(CLONE_NEWNET) < 0) {
		b->e = errno == EPERM ? ERR_DENIED : ERR_SYSTEM;
		return NULL;
	}
	b->e = netlink_link_up("lo", 0);
	if (b->e != OK)
		return NULL;
	b->fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (b->fd < 0)
		b->e = ERR_SYSTEM;
	return NULL;
}

enum err netns_new(int *ret_ns_fd)
{
	struct birth b = { .fd = -1, .e = ERR_SYSTEM };
	enum err e = in_thread(birth_run, &b);

	if (e == OK)
		e = b.e;
	if (e == OK)
		*ret_ns_fd = b.fd;
	return e;
}

/* ---- sockets ---- */

struct socket_wish {
	int domain, type, protocol, fd;
};

static enum err socket_make(void *arg)
{
	struct socket_wish *w = arg;

	w->fd = socket(w->domain, w->type, w->protocol);
	return w->fd >= 0 ? OK : errno == EPERM || errno == EACCES ? ERR_DENIED : ERR_SYSTEM;
}

enum err netns_socket(int ns_fd, int domain, int type, int protocol, int *ret_fd)
{
	struct socket_wish w = { .domain = domain, .type = type, .protocol = protocol, .fd = -1 };
	enum err e = netns_run(ns_fd, socket_make, &w);

	if (e == OK)
		*ret_fd = w.fd;
	return e;
}

/* ---- the TUN ---- */

struct tun_wish {
	const char *name;
	unsigned mtu;
	int fd;
};

static enum err tun_make(void *arg)
{
	struct tun_wish *w = arg;
	struct ifreq ifr;
	enum err e;

	/* a TUN belongs to the namespace that /dev/net/tun was opened in */
	w->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (w->fd < 0)
		return errno == ENOENT || errno == ENODEV || errno == ENXIO ? ERR_NOTFOUND
		       : errno == EPERM || errno == EACCES                  ? ERR_DENIED
									    : ERR_SYSTEM;
	memset(&ifr, 0, sizeof(ifr));
	ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
	memcpy(ifr.ifr_name, w->name, strlen(w->name));
	if (ioctl(w->fd, TUNSETIFF, &ifr) < 0)
		e = errno == EBUSY ? ERR_WRONG_STATE : errno == EPERM ? ERR_DENIED : ERR_SYSTEM;
	else
		e = netlink_link_up(w->name, w->mtu);
	if (e != OK) {
		(void)close(w->fd);
		w->fd = -1;
	}
	return e;
}

enum err tun_open(int ns_fd, const char *name, unsigned mtu, int *ret_fd)
{
	struct tun_wish w = { .name = name, .mtu = mtu, .fd = -1 };
	enum err e;

	if (!*name || strlen(name) >= IFNAMSIZ)
		return ERR_LIMIT;
	e = netns_run(ns_fd, tun_make, &w);
	if (e == OK)
		*ret_fd = w.fd;
	return e;
}
