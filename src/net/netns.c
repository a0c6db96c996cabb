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
#include "net/vnet.h"

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

/* Constants of Linux 6.2, for older headers. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct tun_wish {
	const struct tun_config *cfg;
	int *fds;
	unsigned n, offloads;
};

/* A queue; the first one makes the interface. */
static enum err queue_open(const struct tun_config *cfg, bool first, int *ret_fd)
{
	int header = VNET_HEADER;
	struct ifreq ifr;
	enum err e;

	/* a TUN belongs to the namespace that /dev/net/tun was opened in */
	*ret_fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (*ret_fd < 0)
		return errno == ENOENT || errno == ENODEV || errno == ENXIO ? ERR_NOTFOUND
		       : errno == EPERM || errno == EACCES                  ? ERR_DENIED
									    : ERR_SYSTEM;
	memset(&ifr, 0, sizeof(ifr));
	ifr.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
	if (cfg->n_queues > 1)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	/* never a queue of somebody else's interface */
	if (first)
		ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_TUN_EXCL);
	memcpy(ifr.ifr_name, cfg->name, strlen(cfg->name));
	if (ioctl(*ret_fd, TUNSETIFF, &ifr) < 0)
		e = errno == EBUSY ? ERR_WRONG_STATE : errno == EPERM ? ERR_DENIED : ERR_SYSTEM;
	else
		e = ioctl(*ret_fd, TUNSETVNETHDRSZ, &header) == 0 ? OK : ERR_SYSTEM;
	if (e != OK)
		(void)close(*ret_fd);
	return e;
}

/* As much of what is wanted as the kernel can, each with what it builds on. */
static unsigned offloads_set(int fd, unsigned wanted)
{
	static const struct {
		unsigned ours, kernel;
	} steps[] = {
		{ TUN_OFFLOAD_CSUM, TUN_F_CSUM },
		{ TUN_OFFLOAD_TSO, TUN_F_TSO4 | TUN_F_TSO6 },
		{ TUN_OFFLOAD_ECN, TUN_F_TSO_ECN },
		{ TUN_OFFLOAD_USO, TUN_F_USO4 | TUN_F_USO6 },
	};
	unsigned on = 0, ours = 0;

	if (ioctl(fd, TUNSETOFFLOAD, 0) < 0)
		return 0;
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (!(wanted & steps[i].ours))
			continue;
		if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)(on | steps[i].kernel)) < 0)
			break; /* a refused set changes nothing */
		on |= steps[i].kernel;
		ours |= steps[i].ours;
	}
	return ours;
}

static enum err tun_make(void *arg)
{
	struct tun_wish *w = arg;
	enum err e = OK;

	for (w->n = 0; w->n < w->cfg->n_queues; w->n++) {
		e = queue_open(w->cfg, w->n == 0, &w->fds[w->n]);
		if (e != OK)
			break;
	}
	if (e == OK) {
		w->offloads = offloads_set(w->fds[0], w->cfg->offloads);
		e = netlink_link_up(w->cfg->name, w->cfg->mtu);
	}
	while (e != OK && w->n > 0)
		(void)close(w->fds[--w->n]);
	return e;
}

enum err tun_open(int ns_fd, const struct tun_config *cfg, int *fds, unsigned *ret_offloads)
{
	struct tun_wish w = { .cfg = cfg, .fds = fds };
	enum err e;

	if (!*cfg->name || strlen(cfg->name) >= IFNAMSIZ || !cfg->n_queues || cfg->n_queues > TUN_QUEUES_MAX)
		return ERR_LIMIT;
	e = netns_run(ns_fd, tun_make, &w);
	if (e == OK)
		*ret_offloads = w.offloads;
	return e;
}
