/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ice/candidate.h"

#include <string.h>

#include "base/text.h"

static const struct {
	const char *name;
	uint32_t preference;
} types[] = {
	/* RFC 8445, 5.1.2.2: recommended type preferences */
	[ICE_HOST] = { "host", 126 },
	[ICE_SRFLX] = { "srflx", 100 },
	[ICE_PRFLX] = { "prflx", 110 },
	[ICE_RELAY] = { "relay", 0 },
};

const char *ice_type_name(enum ice_type t)
{
	return types[t].name;
}

uint32_t ice_priority(enum ice_type t, uint16_t local_preference, uint32_t component)
{
	return types[t].preference << 24 | (uint32_t)local_preference << 8 | (256 - component);
}

uint64_t ice_pair_priority(uint32_t controlling, uint32_t controlled)
{
	uint64_t lo = controlling < controlled ? controlling : controlled;
	uint64_t hi = controlling < controlled ? controlled : controlling;

	return lo << 32 | hi << 1 | (controlling > controlled);
}

static bool foundation_ok(struct span v)
{
	for (size_t i = 0; i < v.len; i++)
		if (!ascii_is_alpha(v.p[i]) && !ascii_is_digit(v.p[i]) && v.p[i] != '+' && v.p[i] != '/')
			return false;
	return v.len >= 1 && v.len <= 32;
}

/* RFC 8839, 5.1: foundation component transport priority address port "typ" type, then pairs of name and value. */
enum err ice_candidate_parse(struct span line, struct ice_candidate *ret)
{
	struct span text = line;
	struct ice_candidate c = { .type = ICE_RELAY };
	struct span foundation = span_word(&text), component = span_word(&text), transport = span_word(&text);
	struct span priority = span_word(&text), address = span_word(&text), port = span_word(&text);
	struct span typ = span_word(&text), type = span_word(&text), name;
	struct span raddr = SPAN_NONE, rport = SPAN_NONE;
	uint32_t n, related_port = 0;
	bool known = false;

	for (size_t i = 0; i < line.len; i++)
		if (line.p[i] < 0x20 || line.p[i] > 0x7e) /* the grammar knows blanks and VCHAR only */
			return ERR_MALFORMED;
	if (!foundation_ok(foundation) || span_u32(component, 256, &c.component) != OK || !c.component ||
	    span_u32(priority, 0x7fffffff, &c.priority) != OK || !c.priority || span_u32(port, 65535, &n) != OK ||
	    !span_eq_str(typ, "typ") || !type.len || !transport.len || !address.len)
		return ERR_MALFORMED;
	while ((name = span_word(&text)).len) {
		struct span value = span_word(&text);

		if (!value.len)
			return ERR_MALFORMED; /* extensions come in pairs */
		if (span_eq_str(name, "raddr"))
			raddr = value;
		else if (span_eq_str(name, "rport"))
			rport = value;
	}
	if (rport.len && span_u32(rport, 65535, &related_port) != OK)
		return ERR_MALFORMED;
	for (unsigned t = 0; t < sizeof(types) / sizeof(types[0]); t++)
		if (span_eq_str(type, types[t].name)) {
			c.type = (enum ice_type)t;
			known = true;
		}
	if (!known || !span_ieq_str(transport, "udp") || c.component != 1 || !n)
		return ERR_UNSUPPORTED;
	if (addr_parse_ip(address, &c.addr) != OK || addr_is_any(&c.addr) || addr_is_multicast(&c.addr))
		return ERR_UNSUPPORTED; /* a host name (mDNS among them) or no destination */
	c.addr.port = (uint16_t)n;
	if (raddr.len && addr_parse_ip(raddr, &c.related) == OK)
		c.related.port = (uint16_t)related_port;
	if (span_copy_str(foundation, c.foundation, sizeof(c.foundation)) != OK)
		return ERR_MALFORMED;
	*ret = c;
	return OK;
}

void ice_candidate_write(struct wr *w, const struct ice_candidate *c)
{
	char ip[ADDR_TEXT];

	wr_fmt(w, "%s %u udp %u %s %u typ %s", c->foundation, c->component, c->priority, addr_write_ip(&c->addr, ip),
	       c->addr.port, ice_type_name(c->type));
	if (c->related.family != ADDR_NONE)
		wr_fmt(w, " raddr %s rport %u", addr_write_ip(&c->related, ip), c->related.port);
}
