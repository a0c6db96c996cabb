/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "sdp/sdp.h"

#include <string.h>

struct parser {
	struct span text;
	size_t at; /* of the line that is read next */
	const char *why;
	size_t fault;
};

/* The next line without its end, "x=value" split. False: no more, or p->why is set. */
static bool next_line(struct parser *p, char *ret_type, struct span *ret_value)
{
	struct span rest = span_from(p->text, p->at), line;
	size_t end = span_find(rest, '\n');

	p->fault = p->at;
	if (!rest.len)
		return false;
	line = span_sub(rest, 0, end);
	p->at += end < rest.len ? end + 1 : end;
	if (line.len && line.p[line.len - 1] == '\r')
		line.len--;
	if (line.len > SDP_LINE_MAX)
		p->why = "a line is too long";
	else if (span_find(line, 0) < line.len || span_find(line, '\r') < line.len)
		p->why = "a NUL or a lone CR in a line";
	else if (line.len < 2 || line.p[1] != '=' || line.p[0] < 'a' || line.p[0] > 'z')
		p->why = "a line is not of the form x=value";
	if (p->why)
		return false;
	*ret_type = (char)line.p[0];
	*ret_value = span_from(line, 2);
	return true;
}

static bool is_token(struct span s)
{
	/* RFC 8866, 9: token-char */
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("\"(),/:;<=>?@[\\]", s.p[i]))
			return false;
	return s.len > 0;
}

static void parse_attr(struct parser *p, struct span value, struct sdp_section *s)
{
	struct sdp_attr *a;
	struct span rest;

	if (s->n_attrs == SDP_ATTRS_MAX) {
		p->why = "too many attributes";
		return;
	}
	a = &s->attrs[s->n_attrs];
	a->name = span_cut(value, ':', &rest);
	a->has_value = rest.p != NULL;
	a->value = rest;
	if (!is_token(a->name))
		p->why = "an attribute without a name";
	else
		s->n_attrs++;
}

/* m=<media> <port>["/"<number>] <proto> <fmt> ... (RFC 8866, 5.14) */
static void parse_media(struct parser *p, struct span value, struct sdp *d)
{
	struct sdp_media *m = &d->media[d->n_media];
	struct span left = value, port, count;

	if (d->n_media == SDP_MEDIA_MAX) {
		p->why = "too many media sections";
		return;
	}
	memset(m, 0, sizeof(*m));
	m->line = value;
	m->type = span_word(&left);
	port = span_cut(span_word(&left), '/', &count);
	m->proto = span_word(&left);
	m->n_ports = 1;
	if (!is_token(m->type) || !m->proto.len)
		p->why = "a media line lacks its type or protocol";
	else if (span_u32(port, 65535, &m->port) != OK)
		p->why = "a media line's port is not a number up to 65535";
	else if (count.p && (span_u32(count, 65535, &m->n_ports) != OK || !m->n_ports))
		p->why = "a media line's number of ports is wrong";
	while (!p->why) {
		struct span format = span_word(&left);

		if (!format.len)
			break;
		if (m->n_formats == SDP_FORMATS_MAX)
			p->why = "too many formats";
		else
			m->formats[m->n_formats++] = format;
	}
	if (!p->why && !m->n_formats)
		p->why = "a media line without a format";
	if (!p->why)
		d->n_media++;
}

/* o=<username> <sess-id> <sess-version> <nettype> <addrtype> <address> (5.2) */
static bool origin_ok(struct span value)
{
	static const char *const nettype = "IN";
	struct span word[6];
	uint64_t n;

	for (int i = 0; i < 6; i++)
		word[i] = span_word(&value);
	return word[5].len && !span_trim(value).len && span_u64(word[1], UINT64_MAX, &n) == OK &&
	       span_u64(word[2], UINT64_MAX, &n) == OK && span_eq_str(word[3], nettype) &&
	       (span_eq_str(word[4], "IP4") || span_eq_str(word[4], "IP6"));
}

static bool connection_ok(struct span value)
{
	struct span net = span_word(&value), type = span_word(&value), address = span_word(&value);

	return span_eq_str(net, "IN") && (span_eq_str(type, "IP4") || span_eq_str(type, "IP6")) && address.len &&
	       !span_trim(value).len;
}

/* Where each line may stand (5): a letter that comes before one already seen is out of order. Session lines in
 * order, then those of each media section. */
static const char session_order[] = "vosiuepcbtrzka", media_order[] = "micbka";

static void parse_line(struct parser *p, char type, struct span value, struct sdp *d, size_t *place)
{
	struct sdp_section *s = d->n_media ? &d->media[d->n_media - 1].s : &d->session;
	const char *order = d->n_media ? media_order : session_order;
	const char *hit;
	size_t here;

	if (type == 'm') {
		if (!d->timing.p)
			p->why = "a media section before t=";
		else
			parse_media(p, value, d);
		*place = 0;
		return;
	}
	hit = strchr(order, type);
	if (!hit) {
		p->why = "a line of an unknown type, or not allowed here";
		return;
	}
	here = (size_t)(hit - order);
	/* t= and r= may alternate, one group a time description (5.9, 5.10); e= and p= may come either way round in
	 * practice, and c=, b= and k= as well: readers of SDP have always taken that. */
	if (type == 'r' && !d->timing.p) {
		p->why = "r= before t=";
		return;
	}
	if (here < *place && !strchr("trepcbki", type)) {
		p->why = "a line out of order";
		return;
	}
	if (here > *place)
		*place = here;
	switch (type) {
	case 'o':
		if (d->origin.p || !origin_ok(value))
			p->why = "o= is not user, id, version, IN, IP4 or IP6, address";
		d->origin = value;
		break;
	case 's':
		if (d->name.p)
			p->why = "s= twice";
		d->name = value;
		break;
	case 't': {
		struct span left = value, from = span_word(&left), to = span_word(&left);
		uint64_t n;

		if (span_u64(from, UINT64_MAX, &n) != OK || span_u64(to, UINT64_MAX, &n) != OK || span_trim(left).len)
			p->why = "t= is not two numbers";
		if (!d->timing.p)
			d->timing = value;
		break;
	}
	case 'c':
		if (!connection_ok(value))
			p->why = "c= is not IN, IP4 or IP6, address";
		if (!s->connection.p)
			s->connection = value;
		break;
	case 'r':
		if (!span_trim(value).len)
			p->why = "r= is empty";
		break;
	case 'b':
		if (!s->bandwidth.p)
			s->bandwidth = value;
		break;
	case 'i': s->info = value; break;
	case 'a': parse_attr(p, value, s); break;
	default: break; /* u, e, p, z, k: nothing for us in them */
	}
}

enum err sdp_parse(struct span text, struct sdp *ret, const char **ret_why, size_t *ret_offset)
{
	struct parser p = { .text = text };
	struct span value;
	size_t place = 0;
	char type;

	memset(ret, 0, sizeof(*ret));
	if (text.len > SDP_TEXT_MAX)
		p.why = "the description is too long";
	else if (next_line(&p, &type, &value) && (type != 'v' || !span_eq_str(value, "0")))
		p.why = "the description does not begin with v=0";
	else if (!p.why && !p.at)
		p.why = "the description is empty";
	while (!p.why && next_line(&p, &type, &value)) {
		if (type == 'v')
			p.why = "v= twice";
		else
			parse_line(&p, type, value, ret, &place);
	}
	if (!p.why) {
		p.fault = text.len;
		if (!ret->origin.p)
			p.why = "o= is missing";
		else if (!ret->name.p)
			p.why = "s= is missing";
		else if (!ret->timing.p)
			p.why = "t= is missing";
	}
	if (!p.why)
		return OK;
	*ret_why = p.why;
	*ret_offset = p.fault;
	memset(ret, 0, sizeof(*ret));
	return text.len > SDP_TEXT_MAX ? ERR_LIMIT : ERR_MALFORMED;
}

const struct sdp_attr *sdp_attr_next(const struct sdp_section *s, const char *name, unsigned *at)
{
	while (*at < s->n_attrs) {
		const struct sdp_attr *a = &s->attrs[(*at)++];

		if (span_eq_str(a->name, name))
			return a;
	}
	return NULL;
}

enum err sdp_connection_parse(struct span c, struct addr *ret)
{
	struct span type, text;
	struct addr a;

	if (!connection_ok(c))
		return ERR_MALFORMED;
	(void)span_word(&c);
	type = span_word(&c);
	text = span_word(&c);
	/* "/ttl" makes it multicast; a name would have to be resolved before anything is proven. */
	if (addr_parse_ip(text, &a) != OK || addr_is_multicast(&a))
		return ERR_UNSUPPORTED;
	if ((a.family == ADDR_IP4) != span_eq_str(type, "IP4"))
		return ERR_MALFORMED;
	*ret = a;
	return OK;
}
