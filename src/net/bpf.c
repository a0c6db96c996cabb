/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <assert.h>

#include "net/bpf.h"

unsigned bpf_split_write(unsigned n_data, struct sock_filter dst[BPF_SPLIT_MAX])
{
	/* The length first: a load past the end would end the program with 0, which is right here, but a
	 * keepalive of one octet 0xFF must not be taken for ESP by its first byte alone. */
	const struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 8, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the SPI */
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xC0000000u, 0, 3),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, n_data),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1),
		BPF_STMT(BPF_RET | BPF_A, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	_Static_assert(sizeof(program) / sizeof(program[0]) == BPF_SPLIT_MAX, "the program's written length");

	assert(n_data > 0); /* the kernel refuses a modulus of 0 */
	for (unsigned i = 0; i < BPF_SPLIT_MAX; i++)
		dst[i] = program[i];
	return BPF_SPLIT_MAX;
}
