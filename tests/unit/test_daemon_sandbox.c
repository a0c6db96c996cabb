/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox.h"
#include "net/loop.h"
#include "net/tun.h"
#include "net/udp.h"
#include "harness.h"

static char folder[] = "/tmp/tieline-test-XXXXXX";

/* Runs one thing in a child behind the filter. Returns what waitpid says: a row's line number where it failed. */
static int behind(int (*fn)(void), bool filter)
{
	int status = 0;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (filter && sandbox_filter() != OK)
			_exit(200);
		_exit(fn());
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#define TRY(cond)                                                                                                      \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			(void)dprintf(2, "# line %d: %s, errno %d\n", __LINE__, #cond, errno);                         \
			return 1;                                                                                      \
		}                                                                                                      \
	} while (0)
#define REFUSED(call)                                                                                                  \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		TRY((call) == -1 && errno == EPERM);                                                                   \
	} while (0)

static void expect_exit(int status, int code)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
		fail_msg("signal %d, exit %d", WIFSIGNALED(status) ? WTERMSIG(status) : 0, WEXITSTATUS(status));
}

/* ---- what the engine does ---- */

static void *in_thread(void *arg)
{
	free(malloc(300000));
	*(int *)arg = 7;
	return NULL;
}

static void stop_loop(void *arg, uint64_t now_us)
{
	(void)now_us;
	loop_stop(arg);
}

static uint64_t at_once(void *arg)
{
	(void)arg;
	return 0;
}

static int works(void)
{
	struct addr any = addr_ip4(0x7f000001, 0), mine, list[8];
	struct path path = { .remote = any };
	struct udp_buffers *b = udp_buffers_new();
	struct udp_msg msgs[UDP_BATCH];
	struct loop_hooks hooks = { .tick = stop_loop, .deadline = at_once };
	struct loop *l;
	pthread_t thread;
	int fd, watch, done = 0;
	struct rlimit limit;
	uint32_t uid;
	unsigned n;

	TRY(b && udp_open(&any, &fd, &mine) == OK);
	path.remote = mine;
	TRY(udp_send(fd, &path, SPAN_NONE, SPAN_LIT("x")) == OK && udp_recv(fd, mine.port, b, msgs) == 1);
	msgs[0].path.remote = mine;
	TRY(udp_send_batch(fd, msgs, 1) == 1);
	TRY(ioctl(fd, FIONREAD, &done) == 0);
	TRY(udp_source_towards(&mine, &any) == OK);
	TRY(local_addresses(NULL, list, 8, &n) == OK);
	TRY(sock_owner(17, &mine, &mine, &uid) == OK && uid == getuid());
	TRY(address_watch_open(&watch) == OK);
	TRY(loop_new(&l) == OK);
	hooks.arg = l;
	loop_hooks_set(l, &hooks);
	TRY(loop_run(l) == OK);
	loop_free(l);
	TRY(pthread_create(&thread, NULL, in_thread, &done) == 0 && pthread_join(thread, NULL) == 0 && done == 7);
	TRY(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	TRY(prctl(PR_SET_NAME, "tielined") == 0);
	free(malloc(100000000));
	udp_buffers_free(b);
	return 0;
}

static int files(void)
{
	char from[64], to[64], text[8];
	int fd;

	(void)snprintf(from, sizeof(from), "%s/new", folder);
	(void)snprintf(to, sizeof(to), "%s/old", folder);
	fd = open(from, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
	TRY(fd >= 0 && write(fd, "line\n", 5) == 5 && fsync(fd) == 0 && close(fd) == 0);
	TRY(rename(from, to) == 0);
	fd = open(to, O_RDONLY | O_CLOEXEC);
	TRY(fd >= 0 && read(fd, text, sizeof(text)) == 5 && close(fd) == 0);
	REFUSED(open(to, O_RDWR | O_CLOEXEC));
	TRY(unlink(to) == 0);
	return 0;
}

static void allowed(void **state)
{
	(void)state;
	expect_exit(behind(works, true), 0);
	assert_non_null(mkdtemp(folder));
	expect_exit(behind(files, true), 0);
	assert_int_equal(rmdir(folder), 0);
}

static int abort_itself(void)
{
	(void)signal(SIGABRT, SIG_DFL);
	abort();
}

static void may_abort(void **state)
{
	int status = behind(abort_itself, true);

	(void)state;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- what it does not ---- */

/* Of a raw socket, which the monitor may hand over: headers of one's own, and so any source and protocol. */
static int own_headers(void)
{
	int one = 1, fd = socket(AF_INET, SOCK_DGRAM, 0), fd6 = socket(AF_INET6, SOCK_DGRAM, 0);

	TRY(fd >= 0 && fd6 >= 0);
	REFUSED(setsockopt(fd, IPPROTO_IP, IP_HDRINCL, &one, sizeof(one)));
	REFUSED(syscall(SYS_setsockopt, fd, 1L << 32 | IPPROTO_IP, 1L << 32 | IP_HDRINCL, &one, sizeof(one)));
	REFUSED(setsockopt(fd6, IPPROTO_IPV6, IPV6_HDRINCL, &one, sizeof(one)));
	REFUSED(setsockopt(fd6, SOL_RAW, IPV6_HDRINCL, &one, sizeof(one)));
	TRY(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)) == 0);
	TRY(setsockopt(fd6, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) == 0);
	return close(fd) || close(fd6);
}

static int refused(void)
{
	char *argv[] = { (char *)"true", NULL };
	struct rlimit limit = { 1, 1 };
	void *page;

	REFUSED(execve("/bin/true", argv, NULL));
	REFUSED(syscall(SYS_fork));
	REFUSED(fork());
	REFUSED(socket(AF_PACKET, SOCK_DGRAM, 0));
	REFUSED(kill(getppid(), 0));
	REFUSED(setrlimit(RLIMIT_NOFILE, &limit));
	REFUSED(prctl(PR_SET_DUMPABLE, 1));
	REFUSED(ioctl(0, TIOCSTI, "x"));
	REFUSED(syscall(SYS_memfd_create, "x", 0));
	REFUSED(syscall(SYS_seccomp, 0, 0, NULL));
	TRY(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
	    errno == EPERM);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TRY(page != MAP_FAILED);
	REFUSED(mprotect(page, 4096, PROT_READ | PROT_EXEC));
	return 0;
}

static void not_allowed(void **state)
{
	(void)state;
	expect_exit(behind(refused, true), 0);
	expect_exit(behind(own_headers, true), 0);
}

static int do_ptrace(void)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL) & 0;
}

static int do_unshare(void)
{
	return unshare(CLONE_NEWUSER) & 0;
}

static int do_bpf(void)
{
	return (int)syscall(SYS_bpf, 0, NULL, 0) & 0;
}

static int do_io_uring(void)
{
	return (int)syscall(SYS_io_uring_setup, 1, NULL) & 0;
}

/* A thread that was there before gets the filter as well, and takes the whole process with it. */
static int go[2];

static void *ptrace_thread(void *arg)
{
	char byte;

	if (read(go[0], &byte, 1) == 1)
		(void)do_ptrace();
	return arg;
}

static int in_other_thread(void)
{
	pthread_t thread;

	TRY(pipe(go) == 0 && pthread_create(&thread, NULL, ptrace_thread, NULL) == 0);
	TRY(sandbox_filter() == OK);
	return write(go[1], "x", 1) != 1 || pthread_join(thread, NULL);
}

static void kills(void **state)
{
	static int (*const deeds[])(void) = { do_ptrace, do_unshare, do_bpf, do_io_uring, in_other_thread };

	(void)state;
	for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
		int status = behind(deeds[i], deeds[i] != in_other_thread);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("deed %zu: exit %d", i, WEXITSTATUS(status));
	}
}

/* ---- giving up root ---- */

static int drop(void)
{
	gid_t groups[4];
	struct addr low = addr_ip4(0x7f000001, 1);
	struct tun_config cfg = { .name = "tietest2", .mtu = TUN_MTU, .n_queues = 1 };
	unsigned on;
	int fd;

	TRY(sandbox_drop("no-such-user-of-tieline") == ERR_NOTFOUND);
	TRY(geteuid() == 0);
	TRY(sandbox_drop("nobody") == OK);
	TRY(getuid() != 0 && geteuid() == getuid() && getgid() != 0 && getegid() == getgid());
	TRY(getgroups(4, groups) == 0);
	TRY(setuid(0) == -1 && setgid(0) == -1);
	TRY(prctl(PR_GET_DUMPABLE) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	TRY(prctl(PR_CAPBSET_READ, 12) == 0); /* CAP_NET_ADMIN: not even in the bounding set */
	TRY(tun_open(-1, &cfg, &fd, &on) != OK);
	TRY(netns_new(&fd) == ERR_DENIED);
	TRY(access("/etc/shadow", R_OK) == -1);
	TRY(udp_open(&low, &fd, &low) != OK || low.port == 1);
	TRY(sandbox_drop("nobody") == OK); /* is that user already */
	TRY(sandbox_drop("root") == ERR_DENIED);
	TRY(sandbox_filter() == OK);
	TRY(works() == 0);
	return 0;
}

static void drops(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_message("# needs root\n");
		skip();
	}
	expect_exit(behind(drop, false), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allowed), cmocka_unit_test(may_abort), cmocka_unit_test(not_allowed),
		cmocka_unit_test(kills),   cmocka_unit_test(drops),
	};

	return HARNESS_RUN(tests);
}
