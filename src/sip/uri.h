/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/uri.h - SIP URIs and name-addr (RFC 3261, 19.1 and 20.10). Parsed values are spans into the text. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/buf.h"

struct sip_uri {
	struct span scheme; /* "sip", "sips", "tel", ... */
	bool is_sip; /* sip: or sips: (the fields below are set for these only) */
	bool secure; /* sips: */
	struct span user; /* escaped as written; empty: none. Without a password */
	struct span host; /* without brackets */
	bool host_is_ip6;
	uint16_t port; /* 0: none */
	struct span params; /* ";transport=tcp;lr" with the first semicolon, may be empty */
	struct span headers; /* after '?', may be empty */
	struct span text; /* all of it */
};

MUST_CHECK enum err sip_uri_parse(struct span text, struct sip_uri *ret);
/* Value of ";name=value" or ";name" in a parameter text that begins with ';' (name without case). False: absent. Quoted
 * values come without their quotes. */
bool sip_param(struct span params, const char *name, struct span *ret_value);
/* RFC 3261, 19.1.4, as far as a registrar and a proxy need it: scheme, user, host (no case), port. */
bool sip_uri_same(const struct sip_uri *a, const struct sip_uri *b);
/* Numeric host to an address (default_port where it has none). ERR_UNSUPPORTED: a name. */
MUST_CHECK enum err sip_uri_addr(const struct sip_uri *u, uint16_t default_port, struct addr *ret);

/* name-addr or addr-spec with header parameters: From, To, Contact, Route, Record-Route. */
struct sip_nameaddr {
	struct span display; /* as written, quotes included; may be empty */
	struct sip_uri uri;
	struct span
		params; /* header parameters, ";tag=..." ; for addr-spec those behind the URI are the header's (20) */
	struct span text; /* this element whole */
	bool star; /* Contact: * */
};
/* Takes the next element of a comma-separated list off *list. ERR_NOTFOUND: the list is empty. */
MUST_CHECK enum err sip_nameaddr_next(struct span *list, struct sip_nameaddr *ret);
