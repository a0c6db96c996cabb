/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The monitor's start, and the engine's side of the conversation. */
#include "daemon/monitor.h"

#include <cap-ng.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* What namespaces, TUN, addresses and low ports take. */
static void keep_few_capabilities(void)
{
	capng_clear(CAPNG_SELECT_BOTH);
	/* A failure leaves more than is needed, which is what a monitor without libcap-ng would have. */
	if (capng_updatev(CAPNG_ADD, (capng_type_t)(CAPNG_EFFECTIVE | CAPNG_PERMITTED), CAP_NET_ADMIN, CAP_SYS_ADMIN,
			  CAP_NET_BIND_SERVICE, CAP_NET_RAW, -1) == 0)
		(void)capng_apply(CAPNG_SELECT_BOTH);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static _Noreturn void child(const struct config *cfg, int fd, pid_t parent)
{
	/* The closed socket ends us already; this is for an engine that is killed while we are in a request. With host = yes there
	 * are routes to be removed, and the requests are short. */
	if ((!cfg->host && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) || getppid() != parent)
		_exit(1);
	/* A terminal's interrupt goes to both: the engine decides when it is over. */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	/* Nothing else of the engine's is kept alive by us. */
	if (fd != 3) {
		if (dup2(fd, 3) < 0)
			_exit(1);
		fd = 3;
	}
	(void)close_range(4, ~0u, 0);
	keep_few_capabilities();
	monitor_serve(cfg, fd);
	_exit(0);
}

enum err monitor_start(const struct config *cfg, int *ret_fd, pid_t *ret_pid)
{
	pid_t parent = getpid(), pid;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return ERR_SYSTEM;
	pid = fork();
	if (pid == 0) {
		(void)close(pair[0]);
		child(cfg, pair[1], parent);
	}
	(void)close(pair[1]);
	if (pid < 0) {
		(void)close(pair[0]);
		return ERR_SYSTEM;
	}
	*ret_fd = pair[0];
	*ret_pid = pid;
	return OK;
}

/* At most one descriptor arrives; *ret_fd is -1 or it. */
static ssize_t recv_reply(int fd, struct monitor_reply *reply, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = reply, .iov_len = sizeof(*reply) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t n;

	memset(&control, 0, sizeof(control));
	do {
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	*ret_fd = -1;
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
			memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	if (n >= 0 && (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return -1;
	return n;
}

enum err monitor_ask(int fd, const struct monitor_request *rq, struct monitor_reply *ret, int *ret_fd)
{
	struct monitor_reply reply;
	ssize_t n;
	int got;

	do {
		n = send(fd, rq, sizeof(*rq), MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*rq))
		return ERR_SYSTEM;
	n = recv_reply(fd, &reply, &got);
	if (n != (ssize_t)sizeof(reply) || reply.err >= ERR_COUNT || (reply.err != OK && got >= 0)) {
		if (got >= 0)
			(void)close(got);
		return ERR_SYSTEM;
	}
	*ret = reply;
	*ret_fd = got;
	return (enum err)reply.err;
}
