/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "daemon/sandbox.h"

#include <asm/termbits.h>
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- user, capabilities ---- */

static enum err become(const char *user)
{
	const struct passwd *pw = getpwnam(user);

	if (!pw)
		return ERR_NOTFOUND;
	/* the groups and the group first, while we still may */
	if (geteuid() == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0)
			return ERR_SYSTEM;
		/* the bounding set takes a capability to be emptied */
		capng_clear(CAPNG_SELECT_BOUNDS);
		if (capng_apply(CAPNG_SELECT_BOUNDS) < 0)
			return ERR_SYSTEM;
		if (setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
			return ERR_SYSTEM;
	}
	/* started as that user already, or it was not root that started us */
	return getuid() == pw->pw_uid && geteuid() == pw->pw_uid && getgid() == pw->pw_gid ? OK : ERR_DENIED;
}

enum err sandbox_drop(const char *user)
{
	enum err e = become(user);

	if (e != OK)
		return e;
	capng_clear(CAPNG_SELECT_CAPS);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return ERR_SYSTEM;
	/* What was given up cannot come back; if it can, something above did not do what it said. */
	if (getuid() != 0 && (setuid(0) == 0 || seteuid(0) == 0))
		return ERR_SYSTEM;
	return capng_get_caps_process() == 0 && capng_have_capabilities(CAPNG_SELECT_CAPS) == CAPNG_NONE ? OK
													 : ERR_SYSTEM;
}

/* ---- system calls ---- */

/* Allowed whatever their arguments are. */
static const int allowed[] = {
	/* bytes */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(pipe2),
	SCMP_SYS(lseek),
	/* sockets; what they may reach is the network's and the user's business */
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(connect),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(getsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(socketpair),
	SCMP_SYS(sendto),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmmsg),
	SCMP_SYS(recvmmsg),
	/* waiting, time */
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_create),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(restart_syscall),
	/* memory (what is not executable: below), threads */
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(brk),
	SCMP_SYS(madvise),
	SCMP_SYS(mlock),
	SCMP_SYS(munlock),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(membarrier),
	SCMP_SYS(getrandom),
	/* signals */
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigpending),
	SCMP_SYS(sigaltstack),
	/* the state folder: keys and pins are written anew and renamed, the audit log is appended to */
	SCMP_SYS(rename),
	SCMP_SYS(renameat),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fstat),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(getcwd),
	SCMP_SYS(umask),
	SCMP_SYS(fchmod),
	SCMP_SYS(chmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(flock),
	SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat),
	/* about ourselves */
	SCMP_SYS(getpid),
	SCMP_SYS(getppid),
	SCMP_SYS(gettid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getrusage),
	SCMP_SYS(getrlimit),
	SCMP_SYS(uname),
	SCMP_SYS(sysinfo),
	SCMP_SYS(getcpu),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

/* Nothing of ours asks for these, and who does wants out. Everything that is in no list is refused with EPERM. */
static const int deadly[] = {
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsmount),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_tree),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(iopl),
	SCMP_SYS(ioperm),
	SCMP_SYS(modify_ldt),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(keyctl),
	SCMP_SYS(acct),
	SCMP_SYS(quotactl),
	SCMP_SYS(syslog),
	SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime),
	SCMP_SYS(adjtimex),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(name_to_handle_at),
	SCMP_SYS(kcmp),
	SCMP_SYS(vmsplice),
};

/* An int argument: the upper half of its register means nothing. */
#define INT_ARG 0xffffffffu

/* Allows the call when argument arg, as far as mask reaches, is value. */
static int allow_if(scmp_filter_ctx ctx, int call, unsigned arg, uint64_t mask, uint64_t value)
{
	struct scmp_arg_cmp cmp = { .arg = arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value };

	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, call, 1, &cmp);
}

static int allow_option(scmp_filter_ctx ctx, int level, int name)
{
	struct scmp_arg_cmp cmp[] = {
		{ .arg = 1, .op = SCMP_CMP_MASKED_EQ, .datum_a = INT_ARG, .datum_b = (uint64_t)level },
		{ .arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = INT_ARG, .datum_b = (uint64_t)name },
	};

	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(setsockopt), 2, cmp);
}

/* Of IP those that this program and the C library's resolver set. Above all no headers of one's own (IP_HDRINCL): with them
 * the raw socket for ESP would send whatever packet, from whatever address. */
static int add_socket_options(scmp_filter_ctx ctx)
{
	static const int levels[] = { SOL_SOCKET, IPPROTO_TCP, IPPROTO_UDP };
	static const int ip4[] = { IP_TOS, IP_PKTINFO, IP_RECVTOS, IP_RECVERR, IP_MTU_DISCOVER };
	static const int ip6[] = { IPV6_V6ONLY,  IPV6_RECVPKTINFO, IPV6_RECVTCLASS,  IPV6_TCLASS,
				   IPV6_RECVERR, IPV6_MTU,         IPV6_MTU_DISCOVER };
	int bad = 0;

	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		bad |= allow_if(ctx, SCMP_SYS(setsockopt), 1, INT_ARG, (uint64_t)levels[i]);
	for (unsigned i = 0; i < sizeof(ip4) / sizeof(ip4[0]); i++)
		bad |= allow_option(ctx, IPPROTO_IP, ip4[i]);
	for (unsigned i = 0; i < sizeof(ip6) / sizeof(ip6[0]); i++)
		bad |= allow_option(ctx, IPPROTO_IPV6, ip6[i]);
	return bad;
}

/* Calls whose arguments matter. Non-zero: a rule did not fit. */
static int add_conditional(scmp_filter_ctx ctx)
{
	static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
	static const unsigned long ioctls[] = { FIONREAD, FIONBIO, TCGETS, SIOCOUTQ };
	static const int prctls[] = { PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_GET_DUMPABLE };
	static const int fcntls[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD, F_DUPFD_CLOEXEC, F_SETLK, F_GETLK };
	static const int opens[] = { O_RDONLY, O_WRONLY };
	int bad = add_socket_options(ctx);

	for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		bad |= allow_if(ctx, SCMP_SYS(socket), 0, INT_ARG, (uint64_t)families[i]);
	for (unsigned i = 0; i < sizeof(ioctls) / sizeof(ioctls[0]); i++)
		bad |= allow_if(ctx, SCMP_SYS(ioctl), 1, INT_ARG, ioctls[i]);
	for (unsigned i = 0; i < sizeof(prctls) / sizeof(prctls[0]); i++)
		bad |= allow_if(ctx, SCMP_SYS(prctl), 0, INT_ARG, (uint64_t)prctls[i]);
	for (unsigned i = 0; i < sizeof(fcntls) / sizeof(fcntls[0]); i++)
		bad |= allow_if(ctx, SCMP_SYS(fcntl), 1, INT_ARG, (uint64_t)fcntls[i]);
	/* A filter cannot read a path: which files, the user's rights say. Never both ways on one descriptor, so no
	 * devices (a TUN, a terminal). */
	for (unsigned i = 0; i < sizeof(opens) / sizeof(opens[0]); i++) {
		bad |= allow_if(ctx, SCMP_SYS(openat), 2, O_ACCMODE, (uint64_t)opens[i]);
		bad |= allow_if(ctx, SCMP_SYS(open), 1, O_ACCMODE, (uint64_t)opens[i]);
	}
	bad |= allow_if(ctx, SCMP_SYS(mmap), 2, PROT_EXEC, 0);
	bad |= allow_if(ctx, SCMP_SYS(mprotect), 2, PROT_EXEC, 0);
	/* threads, not processes */
	bad |= allow_if(ctx, SCMP_SYS(clone), 0, CLONE_THREAD, CLONE_THREAD);
	/* abort() and its like: signals to ourselves */
	bad |= allow_if(ctx, SCMP_SYS(tgkill), 0, INT_ARG, (uint64_t)getpid());
	bad |= allow_if(ctx, SCMP_SYS(kill), 0, INT_ARG, (uint64_t)getpid());
	/* limits may be read: no new ones (argument 2 is where they would be) */
	bad |= allow_if(ctx, SCMP_SYS(prlimit64), 2, UINT64_MAX, 0);
	/* their arguments are behind a pointer: the C library falls back to the older call when told so */
	bad |= seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0, NULL);
	bad |= seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0, NULL);
	return bad;
}

enum err sandbox_filter(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int bad = 0;

	if (!ctx)
		return ERR_NOMEM;
	/* A foreign architecture's calls (32-bit ones) have other numbers: they kill, which is libseccomp's default
	 * as well. All threads get the filter. */
	bad |= seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	bad |= seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	bad |= seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (unsigned i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		bad |= seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
	for (unsigned i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		bad |= seccomp_rule_add_array(ctx, SCMP_ACT_KILL_PROCESS, deadly[i], 0, NULL);
	bad |= add_conditional(ctx);
	if (!bad)
		bad = seccomp_load(ctx);
	seccomp_release(ctx);
	return bad ? ERR_SYSTEM : OK;
}
