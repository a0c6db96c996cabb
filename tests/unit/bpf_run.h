/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/bpf_run.h - the few instructions of classic BPF that net/bpf.c uses, as the kernel runs them. */
#pragma once
#include <linux/filter.h>
#include <stdbool.h>
#include "base/buf.h"

/* False: an instruction that is not among them, or the program does not end. */
static inline bool bpf_run(const struct sock_filter *code, unsigned n, struct span d, uint32_t *ret)
{
	uint32_t a = 0, x = 0;

	*ret = 0;
	for (unsigned pc = 0; pc < n; pc++) {
		const struct sock_filter *f = &code[pc];
		unsigned size = BPF_SIZE(f->code) == BPF_H ? 2 : 4;

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_LEN: a = (uint32_t)d.len; break;
		case BPF_LD | BPF_H | BPF_ABS:
		case BPF_LD | BPF_W | BPF_ABS:
			if (f->k > d.len || d.len - f->k < size)
				return true; /* past the end: it returns 0 */
			a = size == 2 ? be16(d.p + f->k) : be32(d.p + f->k);
			break;
		case BPF_JMP | BPF_JGE | BPF_K: pc += a >= f->k ? f->jt : f->jf; break;
		case BPF_JMP | BPF_JGE | BPF_X: pc += a >= x ? f->jt : f->jf; break;
		case BPF_ALU | BPF_MOD | BPF_K: a %= f->k; break;
		case BPF_ALU | BPF_ADD | BPF_K: a += f->k; break;
		case BPF_MISC | BPF_TAX: x = a; break;
		case BPF_RET | BPF_A: *ret = a; return true;
		case BPF_RET | BPF_K: *ret = f->k; return true;
		default: return false;
		}
	}
	return false;
}
