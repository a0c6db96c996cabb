/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sdp/sdp.h - session descriptions (RFC 8866): parse and write. Form only. Everything
 * parsed is a span into the text, which the caller keeps. */
#pragma once
#include <stdbool.h>
#include "base/addr.h"
#include "base/buf.h"

#define SDP_TEXT_MAX 16384
#define SDP_MEDIA_MAX 8
#define SDP_ATTRS_MAX 96 /* of one section */
#define SDP_FORMATS_MAX 32
#define SDP_LINE_MAX 4096

struct sdp_attr {
	struct span name, value;
	bool has_value; /* "a=flag" against "a=name:" */
};

struct sdp_section {
	struct span info, bandwidth, connection; /* whole values of i=, b= (first), c= (first); empty: absent */
	struct sdp_attr attrs[SDP_ATTRS_MAX];
	unsigned n_attrs;
};

struct sdp_media {
	struct span type; /* "application" */
	uint32_t port, n_ports;
	struct span proto;
	struct span formats[SDP_FORMATS_MAX];
	unsigned n_formats;
	struct span line; /* the value of m=, to answer it with port 0 */
	struct sdp_section s;
};

struct sdp {
	struct span origin, name, timing; /* o=, s=, first t= */
	struct sdp_section session;
	struct sdp_media media[SDP_MEDIA_MAX];
	unsigned n_media;
};

/* On error *ret_why is a short static sentence and *ret_offset the byte where it was seen. Lines
 * may end in CRLF or LF (RFC 8866, 5: parsers SHOULD accept both). ret is big: not on a small stack. */
MUST_CHECK enum err sdp_parse(struct span text, struct sdp *ret, const char **ret_why, size_t *ret_offset);
/* First attribute of that name (case matters, RFC 8866), NULL: absent. *at: where to go on, starts at 0. */
const struct sdp_attr *sdp_attr_next(const struct sdp_section *s, const char *name, unsigned *at);
/* c= value to an address; ERR_UNSUPPORTED for host names and multicast. */
MUST_CHECK enum err sdp_connection_parse(struct span c, struct addr *ret);
