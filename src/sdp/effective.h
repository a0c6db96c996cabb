/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sdp/effective.h - inside sdp/ only: which attribute lines count for a media section. */
#pragma once
#include "sdp/sdp.h"

/* Walks the lines of one name that are in force for a media section: its own, or, only where it has none of that
 * name, the session's (docs/protocol.md, canon). */
struct effective {
	const struct sdp_section *section;
	const char *name;
	unsigned at;
};
struct effective effective_of(const struct sdp *d, unsigned index, const char *name);
const struct sdp_attr *effective_next(struct effective *e);
/* The only such line; NULL: none. *ret_twice is set when there is more than one. */
const struct sdp_attr *effective_one(const struct sdp *d, unsigned index, const char *name, bool *ret_twice);
/* ike-setup, or udp-setup of draft-saito-mmusic-sdp-ike-06 where the former is absent; NULL: neither. */
const struct sdp_attr *effective_setup(const struct sdp *d, unsigned index, bool *ret_twice);
