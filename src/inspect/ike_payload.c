/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* inspect/ike_payload.c - the fields of each payload of RFC 7296, and of our own notifies. */
#include <stdio.h>
#include <string.h>

#include "ike/config_payload.h"
#include "inspect/inspect_impl.h"

struct name {
	uint16_t type;
	const char *name;
};

static const char *find(const struct name *names, size_t n, uint16_t type)
{
	for (size_t i = 0; i < n; i++)
		if (names[i].type == type)
			return names[i].name;
	return NULL;
}
#define FIND(names, type) find(names, sizeof(names) / sizeof((names)[0]), type)

const char *inspect_ike_payload_name(uint8_t type)
{
	static const struct name names[] = {
		{ IKE_P_SA, "SA" },     { IKE_P_KE, "KE" },           { IKE_P_IDI, "IDi" },   { IKE_P_IDR, "IDr" },
		{ IKE_P_CERT, "CERT" }, { IKE_P_CERTREQ, "CERTREQ" }, { IKE_P_AUTH, "AUTH" }, { IKE_P_NONCE, "Nonce" },
		{ IKE_P_NOTIFY, "N" },  { IKE_P_DELETE, "D" },        { IKE_P_VENDOR, "V" },  { IKE_P_TSI, "TSi" },
		{ IKE_P_TSR, "TSr" },   { IKE_P_SK, "SK" },           { IKE_P_CP, "CP" },     { IKE_P_EAP, "EAP" },
		{ IKE_P_SKF, "SKF" },
	};
	const char *name = FIND(names, type);

	return name ? name : "unknown";
}

static const struct name notifies[] = {
	{ IKE_N_UNSUPPORTED_CRITICAL_PAYLOAD, "UNSUPPORTED_CRITICAL_PAYLOAD" },
	{ IKE_N_INVALID_SYNTAX, "INVALID_SYNTAX" },
	{ IKE_N_NO_PROPOSAL_CHOSEN, "NO_PROPOSAL_CHOSEN" },
	{ IKE_N_INVALID_KE_PAYLOAD, "INVALID_KE_PAYLOAD" },
	{ IKE_N_AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED" },
	{ IKE_N_NO_ADDITIONAL_SAS, "NO_ADDITIONAL_SAS" },
	{ IKE_N_INTERNAL_ADDRESS_FAILURE, "INTERNAL_ADDRESS_FAILURE" },
	{ IKE_N_FAILED_CP_REQUIRED, "FAILED_CP_REQUIRED" },
	{ IKE_N_TS_UNACCEPTABLE, "TS_UNACCEPTABLE" },
	{ IKE_N_UNACCEPTABLE_ADDRESSES, "UNACCEPTABLE_ADDRESSES" },
	{ IKE_N_UNEXPECTED_NAT_DETECTED, "UNEXPECTED_NAT_DETECTED" },
	{ IKE_N_TEMPORARY_FAILURE, "TEMPORARY_FAILURE" },
	{ IKE_N_CHILD_SA_NOT_FOUND, "CHILD_SA_NOT_FOUND" },
	{ IKE_N_INITIAL_CONTACT, "INITIAL_CONTACT" },
	{ IKE_N_NAT_DETECTION_SOURCE_IP, "NAT_DETECTION_SOURCE_IP" },
	{ IKE_N_NAT_DETECTION_DESTINATION_IP, "NAT_DETECTION_DESTINATION_IP" },
	{ IKE_N_COOKIE, "COOKIE" },
	{ IKE_N_USE_TRANSPORT_MODE, "USE_TRANSPORT_MODE" },
	{ IKE_N_REKEY_SA, "REKEY_SA" },
	{ IKE_N_MOBIKE_SUPPORTED, "MOBIKE_SUPPORTED" },
	{ IKE_N_ADDITIONAL_IP4_ADDRESS, "ADDITIONAL_IP4_ADDRESS" },
	{ IKE_N_ADDITIONAL_IP6_ADDRESS, "ADDITIONAL_IP6_ADDRESS" },
	{ IKE_N_NO_ADDITIONAL_ADDRESSES, "NO_ADDITIONAL_ADDRESSES" },
	{ IKE_N_UPDATE_SA_ADDRESSES, "UPDATE_SA_ADDRESSES" },
	{ IKE_N_COOKIE2, "COOKIE2" },
	{ IKE_N_NO_NATS_ALLOWED, "NO_NATS_ALLOWED" },
	{ IKE_N_SIGNATURE_HASH_ALGORITHMS, "SIGNATURE_HASH_ALGORITHMS" },
	{ IKE_N_TIELINE_BIND, "TIELINE_BIND" },
	{ IKE_N_TIELINE_REQUEST, "TIELINE_REQUEST" },
	{ IKE_N_TIELINE_GRANT, "TIELINE_GRANT" },
	{ IKE_N_TIELINE_REFUSE, "TIELINE_REFUSE" },
	{ IKE_N_TIELINE_WAIT, "TIELINE_WAIT" },
};

static const struct name attributes[] = {
	/* RFC 7296, 3.15.1 */
	{ IKE_CP_IP4_ADDRESS, "INTERNAL_IP4_ADDRESS" }, { IKE_CP_IP4_NETMASK, "INTERNAL_IP4_NETMASK" },
	{ IKE_CP_IP4_DNS, "INTERNAL_IP4_DNS" },         { IKE_CP_IP6_ADDRESS, "INTERNAL_IP6_ADDRESS" },
	{ IKE_CP_IP6_DNS, "INTERNAL_IP6_DNS" },         { IKE_CP_IP4_SUBNET, "INTERNAL_IP4_SUBNET" },
	{ IKE_CP_IP6_SUBNET, "INTERNAL_IP6_SUBNET" },
};

/* A payload that is being filled; o is NULL once memory ran out. */
struct fields {
	json_t *o;
};

static void set(struct fields *f, const char *key, json_t *value)
{
	f->o = inspect_set(f->o, key, value);
}

static void set_number(struct fields *f, const char *key, uint32_t v)
{
	set(f, key, json_integer(v));
}

/* ---- each payload's fields, into o ---- */

static enum err fields_sa(struct span body, struct fields *o)
{
	json_t *proposals;
	struct ike_offer f;
	enum err e = ike_offer_parse(body, &f);

	if (e != OK)
		return e;
	proposals = json_array();
	for (unsigned i = 0; i < f.n_proposals; i++) {
		const struct ike_proposal *p = &f.proposals[i];
		json_t *transforms = json_array();

		for (unsigned k = p->first; k < p->first + p->n; k++) {
			json_t *t = json_pack("{s:i, s:i}", "type", (int)f.transforms[k].type, "id",
					      (int)f.transforms[k].id);

			if (f.transforms[k].key_bits)
				t = inspect_set(t, "key_bits", json_integer(f.transforms[k].key_bits));
			transforms = inspect_append(transforms, t);
		}
		proposals = inspect_append(proposals, json_pack("{s:i, s:i, s:o, s:o}", "number", (int)p->number,
								"protocol", (int)p->protocol, "spi",
								inspect_hex(p->spi), "transforms", transforms));
	}
	set(o, "proposals", proposals);
	return OK;
}

static enum err fields_ke(struct span body, struct fields *o)
{
	struct ike_ke f;
	enum err e = ike_ke_parse(body, &f);

	if (e != OK)
		return e;
	set_number(o, "group", f.group);
	set(o, "value", inspect_hex(f.value));
	return OK;
}

static enum err fields_id(struct span body, struct fields *o)
{
	struct ike_id f;
	enum err e = ike_id_parse(body, &f);

	if (e != OK)
		return e;
	set_number(o, "id_type", f.type);
	/* 3.5: 1 IPv4, 2 FQDN, 3 RFC 822, 5 IPv6 */
	set(o, "value",
	    f.type == 2 || f.type == IKE_ID_RFC822 ? inspect_text(f.value)
	    : f.type == 1 || f.type == 5           ? inspect_ip(f.value)
						   : inspect_hex(f.value));
	return OK;
}

static enum err fields_cert(struct span body, struct fields *o)
{
	struct ike_cert f;
	enum err e = ike_cert_parse(body, &f);

	if (e != OK)
		return e;
	set_number(o, "encoding", f.encoding);
	set(o, "value", inspect_hex(f.value));
	return OK;
}

static enum err fields_auth(struct span body, struct fields *o)
{
	struct ike_auth f;
	enum err e = ike_auth_parse(body, &f);

	if (e != OK)
		return e;
	set_number(o, "method", f.method);
	set(o, "value", inspect_hex(f.value));
	return OK;
}

static enum err fields_nonce(struct span body, struct fields *o)
{
	struct span f;
	enum err e = ike_nonce_parse(body, &f);

	if (e == OK)
		set(o, "value", inspect_hex(f));
	return e;
}

/* Our own notifies, where their data have the form of docs/protocol.md; else the bytes say it. */
static void fields_ours(const struct ike_notify *n, struct fields *o)
{
	struct ike_request rq;
	struct ike_grant g;
	uint32_t request;
	uint16_t seconds;
	uint8_t reason;

	if (n->type == IKE_N_TIELINE_BIND && n->data.len == IKE_BIND_LEN) {
		set(o, "tag", inspect_hex(span_sub(n->data, 0, 8)));
		set(o, "bind_hash", inspect_hex(span_from(n->data, 8)));
	} else if (n->type == IKE_N_TIELINE_REQUEST && ike_request_parse(n->data, &rq) == OK) {
		json_t *names = json_array();

		for (unsigned i = 0; i < rq.n_names; i++)
			names = inspect_append(names, inspect_text(span_str(rq.names[i])));
		set_number(o, "request", rq.request);
		set(o, "names", names);
	} else if (n->type == IKE_N_TIELINE_GRANT && ike_grant_parse(n->data, n->data.len == 8, &g) == OK) {
		set_number(o, "request", g.request);
		set_number(o, "grant", g.id);
		if (n->data.len == 8)
			return;
		set_number(o, "grant_protocol", g.protocol);
		set_number(o, "port", g.port);
		set_number(o, "seconds", g.seconds);
		set(o, "service", inspect_text(span_str(g.name)));
	} else if (n->type == IKE_N_TIELINE_REFUSE && ike_refuse_parse(n->data, &request, &reason) == OK) {
		set_number(o, "request", request);
		set_number(o, "reason", reason);
	} else if (n->type == IKE_N_TIELINE_WAIT && ike_wait_parse(n->data, &request, &seconds) == OK) {
		set_number(o, "request", request);
		set_number(o, "seconds", seconds);
	}
}

static enum err fields_notify(struct span body, struct fields *o)
{
	struct ike_notify f;
	enum err e = ike_notify_parse(body, &f);

	if (e != OK)
		return e;
	set_number(o, "protocol", f.protocol);
	set_number(o, "notify", f.type);
	if (FIND(notifies, f.type))
		set(o, "notify_name", json_string(FIND(notifies, f.type)));
	set(o, "spi", inspect_hex(f.spi));
	set(o, "data", inspect_hex(f.data));
	fields_ours(&f, o);
	return OK;
}

static enum err fields_delete(struct span body, struct fields *o)
{
	struct ike_delete f;
	json_t *spis;
	enum err e = ike_delete_parse(body, &f);

	if (e != OK)
		return e;
	spis = json_array();
	for (unsigned i = 0; f.protocol != IKE_PROTO_IKE && i < f.n; i++)
		spis = inspect_append(spis, inspect_hex32(f.spis[i]));
	set_number(o, "protocol", f.protocol);
	set(o, "spis", spis);
	return OK;
}

static enum err fields_ts(struct span body, struct fields *o)
{
	struct ike_ts_list f;
	json_t *list;
	enum err e = ike_ts_parse(body, &f);

	if (e != OK)
		return e;
	list = json_array();
	for (unsigned i = 0; i < f.n; i++) {
		const struct ike_ts *t = &f.ts[i];
		size_t len = t->family == ADDR_IP4 ? 4 : 16;

		list = inspect_append(list, json_pack("{s:i, s:i, s:i, s:o, s:o}", "protocol", (int)t->protocol,
						      "port_lo", (int)t->port_lo, "port_hi", (int)t->port_hi, "from",
						      inspect_ip(span_of(t->ip_lo, len)), "to",
						      inspect_ip(span_of(t->ip_hi, len))));
	}
	set(o, "selectors", list);
	return OK;
}

static enum err fields_cp(struct span body, struct fields *o)
{
	struct rd r = rd_of(span_from(body, 4));
	struct ike_cp cp;
	uint8_t type;
	json_t *list;
	enum err e = ike_cp_parse(body, &type, &cp);

	if (e != OK)
		return e;
	list = json_array();
	while (rd_left(&r)) { /* its form is good */
		uint16_t attribute = rd_u16(&r) & 0x7fff, len = rd_u16(&r);
		struct span v = rd_span(&r, len);
		json_t *one = json_pack("{s:i, s:o}", "type", (int)attribute, "value", inspect_hex(v));

		if (FIND(attributes, attribute))
			one = inspect_set(one, "name", json_string(FIND(attributes, attribute)));
		if (ike_cp_size(attribute) > 0 && len) /* and what follows the address: a mask, a length */
			one = inspect_set(one, "address",
					  inspect_ip(span_sub(v, 0, ike_cp_size(attribute) < 16 ? 4 : 16)));
		list = inspect_append(list, one);
	}
	set_number(o, "cfg_type", type);
	set(o, "attributes", list);
	return OK;
}

static enum err fields_vendor(struct span body, struct fields *o)
{
	set(o, "value", inspect_hex(body));
	if (span_eq(body, ike_vendor_id()))
		set(o, "vendor", json_string("tieline"));
	return OK;
}

static enum err fields_other(struct span body, struct fields *o)
{
	set(o, "value", inspect_hex(body));
	return OK;
}

static enum err fields_of(const struct ike_payload *p, struct fields *o)
{
	switch (p->type) {
	case IKE_P_SA: return fields_sa(p->body, o);
	case IKE_P_KE: return fields_ke(p->body, o);
	case IKE_P_IDI:
	case IKE_P_IDR: return fields_id(p->body, o);
	case IKE_P_CERT:
	case IKE_P_CERTREQ: return fields_cert(p->body, o);
	case IKE_P_AUTH: return fields_auth(p->body, o);
	case IKE_P_NONCE: return fields_nonce(p->body, o);
	case IKE_P_NOTIFY: return fields_notify(p->body, o);
	case IKE_P_DELETE: return fields_delete(p->body, o);
	case IKE_P_CP: return fields_cp(p->body, o);
	case IKE_P_VENDOR: return fields_vendor(p->body, o);
	case IKE_P_TSI:
	case IKE_P_TSR: return fields_ts(p->body, o);
	default: return fields_other(p->body, o);
	}
}

json_t *inspect_ike_payloads(const struct ike_chain *c, const struct ike_payload **ret_bad, enum err *ret_err)
{
	json_t *list = json_array();
	enum err e = OK;

	for (unsigned i = 0; list && i < c->n; i++) {
		const struct ike_payload *p = &c->p[i];
		struct fields f = { json_pack("{s:i, s:s, s:b, s:I}", "type", (int)p->type, "name",
					      inspect_ike_payload_name(p->type), "critical", p->critical, "length",
					      (json_int_t)p->body.len + IKE_PAYLOAD_HDR) };

		e = fields_of(p, &f);
		if (e != OK) {
			json_decref(f.o);
			json_decref(list);
			*ret_bad = p;
			*ret_err = e;
			return NULL;
		}
		list = inspect_append(list, f.o);
	}
	*ret_err = list ? OK : ERR_NOMEM;
	return list;
}
