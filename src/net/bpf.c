/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <assert.h>

#include "net/bpf.h"

unsigned bpf_split_write(unsigned n_data, struct sock_filter dst[BPF_SPLIT_MAX])
{
	/* The length first: a load past the end would end the program with 0, which is right here, but a
	 * keepalive of one octet 0xFF must not be taken for ESP by its first byte alone. Of a train it is the whole train's: so
	 * ChannelData may be longer than it says. */
	const struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 8, 0, 15),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the SPI, or channel and length */
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xC0000000u, 10, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x50000000u, 12, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 11),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 2),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 8, 0, 9),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 4),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_X, 0, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4), /* the SPI in it */
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
