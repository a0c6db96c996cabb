/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The value of a=candidate.
 * covers: src/ice/candidate.c */
#include <stdlib.h>

#include "ice/candidate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ice_candidate c, back;
	uint8_t mem[256];
	struct wr w = wr_of(mem, sizeof(mem));

	if (ice_candidate_parse(span_of(data, size), &c) != OK)
		return 0;
	ice_candidate_write(&w, &c);
	if (w.bad || ice_candidate_parse(wr_done(&w), &back) != OK || !addr_eq(&c.addr, &back.addr) ||
	    c.priority != back.priority || c.type != back.type || !addr_eq(&c.related, &back.related))
		abort();
	(void)ice_pair_priority(c.priority, ice_priority(c.type, 1, 1));
	return 0;
}
