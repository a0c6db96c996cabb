/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/fragment.h - messages that are too long for one datagram (RFC 7383): cut and put together. Bytes and time only.
 *
 * A message of ours may be several datagrams back to back, in one span: each says its own length in its header. Window and
 * retransmission keep and repeat such a span as one message. */
#pragma once
#include "base/timers.h"
#include "ike/keys.h"

/* Ours (RFC 7383, 2.5.1): an IPv6 datagram of 1280 bytes, less 40 + 8 of headers, 4 of the non-ESP marker, and room for a TURN
 * header. 576 as for IPv4 would gain nothing here: inner packets are IPv6, so a path that does not carry 1280 bytes does not
 * carry the tunnel without IP fragments either. */
#define IKE_FRAGMENT_MAX 1200
/* What a fragment adds to its content, with any cipher: header 28, payload header 8, IV, padding and its length, ICV. */
#define IKE_FRAGMENT_OVER 96
#define IKE_FRAGMENTS_MAX 32 /* of a message to us: IKE_MSG_MAX in datagrams of 576 bytes are 18 */
#define IKE_FRAGMENT_KEEP_US MS(31500) /* 2.6: as long as we try as initiator */

/* First datagram of what is left of a message; *rest moves on. Empty at the end. */
struct span ike_datagram(struct span *rest);

/* Closes b and encrypts it: as it is if it fits into a datagram, else as fragments, in the memory of b. */
MUST_CHECK enum err ike_fragment_seal(struct ike_build *b, struct ike_sk *k, struct span *ret);

struct ike_fragment {
	uint16_t number, total;
};
/* Of an SKF payload (2.5). ERR_MALFORMED also where 2.6 wants silence: 0, or a number beyond the total. */
MUST_CHECK enum err ike_fragment_parse(struct span body, struct ike_fragment *ret);

/* A message that is not complete yet. */
struct ike_parts {
	uint64_t spi_i, spi_r;
	uint32_t message_id;
	uint8_t exchange, first; /* type of the first inner payload */
	uint16_t total, n;
	uint64_t until_us;
	size_t len; /* of all contents */
	uint8_t *head; /* the datagram of fragment 1: by it a repetition is known (2.6.1) */
	size_t head_len;
	struct {
		uint8_t *p; /* NULL: not here yet */
		size_t len;
	} part[IKE_FRAGMENTS_MAX];
};
void ike_parts_free(struct ike_parts *p); /* wipes */
/* Before it is decrypted: is this fragment of any use? */
bool ike_parts_wants(const struct ike_parts *p, const struct ike_header *h, const struct ike_fragment *f);
/* Keeps a fragment that is authentic and wanted; *p is made when it is NULL. Other messages' parts, and those cut another way,
 * go (2.6). On failure nothing has changed. ERR_LIMIT: too long in all, and the message is given up. */
MUST_CHECK enum err ike_parts_add(struct ike_parts **p, uint64_t now_us, struct span msg, const struct ike_header *h,
				  const struct ike_fragment *f, uint8_t first, struct span content);
bool ike_parts_complete(const struct ike_parts *p);
/* The content of the whole message. */
MUST_CHECK enum err ike_parts_join(const struct ike_parts *p, uint8_t *mem, size_t cap, struct span *ret);
