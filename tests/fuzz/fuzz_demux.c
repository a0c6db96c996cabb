/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A datagram of the tunnel port: the definition of its kind and the kernel's program say the same (docs/protocol.md). The first byte is
 * the number of data sockets.
 * covers: src/net/demux.c src/net/bpf.c */
#include <stdlib.h>

#include "net/bpf.h"
#include "net/demux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the kernel would return: the few instructions that the program is made of (a load past the end returns 0). */
static uint32_t kernel(const struct sock_filter *program, unsigned n, struct span d)
{
	uint32_t acc = 0;

	for (unsigned pc = 0; pc < n; pc++) {
		const struct sock_filter *i = &program[pc];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_LEN: acc = (uint32_t)d.len; break;
		case BPF_LD | BPF_W | BPF_ABS:
			if (i->k > d.len || d.len - i->k < 4)
				return 0;
			acc = be32(d.p + i->k);
			break;
		case BPF_JMP | BPF_JGE | BPF_K: pc += acc >= i->k ? i->jt : i->jf; break;
		case BPF_ALU | BPF_MOD | BPF_K: acc %= i->k; break;
		case BPF_ALU | BPF_ADD | BPF_K: acc += i->k; break;
		case BPF_RET | BPF_A: return acc;
		case BPF_RET | BPF_K: return i->k;
		default: abort();
		}
	}
	abort(); /* it ends by RET */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sock_filter program[BPF_SPLIT_MAX];
	unsigned n_data;
	struct span d;
	enum demux_kind k;
	uint32_t to;

	if (!size)
		return 0;
	n_data = 1 + data[0] % 16;
	d = span_of(data + 1, size - 1);
	k = demux_classify(d);
	to = kernel(program, bpf_split_write(n_data, program), d);
	if (to > n_data || (to > 0) != (k == DEMUX_ESP) || !*demux_kind_name(k))
		abort();
	return 0;
}
