/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A datagram through everything that reads STUN before it is authenticated.
 * covers: src/ice/stun.c */
#include <stdlib.h>
#include <string.h>

#include "ice/stun.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same message written by us with good integrity and fingerprint, so that the fuzzer's changes get past both. */
static void sealed(const struct stun_msg *m)
{
	static struct stun_msg back;
	uint8_t mem[STUN_MSG_MAX], out[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem)), answer = wr_of(out, sizeof(out));
	struct addr from = addr_ip4(0xc0000201, 4500), a;
	uint16_t unknown[4];

	stun_begin(&w, m->cls, m->method, m->transaction);
	for (unsigned i = 0; i < m->n_attrs; i++)
		if (m->attrs[i].type != STUN_MESSAGE_INTEGRITY && m->attrs[i].type != STUN_FINGERPRINT &&
		    m->attrs[i].type != STUN_MESSAGE_INTEGRITY_SHA256)
			stun_put(&w, m->attrs[i].type, m->attrs[i].value);
	if (stun_finish(&w, SPAN_LIT("VOkJxbRl1RmTxUk/WvJxBt"), true) != OK)
		return;
	if (stun_parse(wr_done(&w), &back) != OK || !back.has_fingerprint ||
	    stun_check_integrity(&back, SPAN_LIT("VOkJxbRl1RmTxUk/WvJxBt")) != OK || back.cls != m->cls ||
	    back.method != m->method)
		abort();
	for (unsigned i = 0; i < back.n_attrs; i++) {
		(void)!stun_attr_addr(&back, &back.attrs[i], &a);
		(void)stun_attr_name(back.attrs[i].type);
	}
	(void)stun_error_code(&back);
	(void)stun_unknown(&back, unknown, 4);
	if (stun_serve(wr_done(&w), &from, &answer) &&
	    (m->cls != STUN_REQUEST || stun_parse(wr_done(&answer), &back) != OK))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stun_msg m;

	if (stun_parse(span_of(data, size), &m) == OK) {
		(void)!stun_check_integrity(&m, SPAN_LIT("VOkJxbRl1RmTxUk/WvJxBt"));
		sealed(&m);
	}
	return 0;
}
