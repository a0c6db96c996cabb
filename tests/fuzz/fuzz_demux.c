/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A datagram of the tunnel port: the definition of its kind and the kernel's program say the same (docs/protocol.md). The first byte is
 * the number of data sockets.
 * covers: src/net/demux.c src/net/bpf.c */
#include <stdlib.h>

#include "net/bpf.h"
#include "net/demux.h"
#include "../unit/bpf_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sock_filter program[BPF_SPLIT_MAX];
	struct demux_inside in;
	unsigned n_data;
	struct span d;
	uint32_t to;
	bool esp;

	if (!size)
		return 0;
	n_data = 1 + data[0] % 16;
	d = span_of(data + 1, size - 1);
	esp = demux_classify(d) == DEMUX_ESP;
	if (demux_channel(d, &in)) {
		if (demux_classify(d) != DEMUX_CHANNEL || in.bytes.p != d.p + 4 || in.bytes.len > d.len - 4 ||
		    in.channel < 0x4000 || in.channel > 0x4fff || in.kind != demux_classify(in.bytes))
			abort();
		esp = in.kind == DEMUX_ESP;
		d = esp ? in.bytes : d;
	}
	if (!bpf_run(program, bpf_split_write(n_data, program), span_of(data + 1, size - 1), &to) ||
	    to != (esp ? 1 + be32(d.p) % n_data : 0) || !*demux_kind_name(demux_classify(d)))
		abort();
	return 0;
}
