/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/command.c - what a line on the control socket asks for (docs/control-protocol.md). */
#include <stdio.h>
#include <string.h>

#include "daemon/control_impl.h"
#include "vpn/policy.h"

#define ID_MAX 64 /* comes back with every line */

struct command {
	struct connection *c;
	struct engine *e;
	json_t *rq, *id;
};

static const char *text_of(const struct command *k, const char *key)
{
	return json_string_value(json_object_get(k->rq, key));
}

static bool flag_of(const struct command *k, const char *key)
{
	return json_is_true(json_object_get(k->rq, key));
}

/* False: there, but not a whole number from 0 to max. */
static bool number_of(const struct command *k, const char *key, json_int_t max, json_int_t *ret)
{
	const json_t *v = json_object_get(k->rq, key);

	*ret = 0;
	if (!v || json_is_null(v))
		return true;
	*ret = json_integer_value(v);
	return json_is_integer(v) && *ret >= 0 && *ret <= max;
}

static void done(const struct command *k, enum reason code, const char *reason)
{
	control_done(k->c, k->id, code, reason, NULL);
}

static void wrong(const struct command *k, const char *what)
{
	done(k, REASON_USAGE, what);
}

static bool peer_aor(const struct command *k, char dst[CFG_AOR_MAX])
{
	const char *text = text_of(k, "peer");

	return text && sdp_aor_normal(span_str(text), dst, CFG_AOR_MAX) == OK;
}

/* ---- calls ---- */

static void do_call(const struct command *k)
{
	struct vpn_call_request v = { .to = text_of(k, "to"),
				      .service = text_of(k, "service"),
				      .from = text_of(k, "from"),
				      .trust_first = flag_of(k, "trust_first"),
				      .export_keys = flag_of(k, "keys") };
	json_int_t timeout, port;
	struct request *r;
	unsigned call = 0;
	enum err e;

	if (!v.to || !number_of(k, "timeout", 3600, &timeout) || !number_of(k, "port", 65535, &port)) {
		wrong(k, "call needs \"to\"; \"timeout\" is at most 3600 s, \"port\" at most 65535");
		return;
	}
	if (flag_of(k, "sas")) {
		wrong(k, "this version has no short authentication strings");
		return;
	}
	if (v.export_keys && flag_of(k, "detach")) {
		wrong(k, "\"keys\" and \"detach\" exclude each other: keys go to the connection that made the call");
		return;
	}
	r = control_request(k->c, RQ_CALL, k->id);
	if (!r) {
		wrong(k, "too many open requests on this connection");
		return;
	}
	r->detach = flag_of(k, "detach");
	r->any_user = flag_of(k, "any_user");
	r->keys = v.export_keys;
	v.owner = r->token;
	v.timeout_s = (uint32_t)timeout;
	v.local_port = (uint16_t)port;
	e = vpn_call(k->e->vpn, loop_now_us(k->e->loop), &v, &call);
	if (e == OK) {
		r->call = call;
		if (!r->conn && !r->detach) /* the connection broke while the call was made */
			(void)!vpn_hangup(k->e->vpn, loop_now_us(k->e->loop), call);
		return;
	}
	control_request_free(k->c->control, r);
	done(k,
	     e == ERR_MALFORMED || e == ERR_NOTFOUND ? REASON_USAGE
	     : e == ERR_LIMIT                        ? REASON_BUSY
	     : e == ERR_DENIED                       ? REASON_NOT_ALLOWED
						     : REASON_INTERNAL,
	     e == ERR_MALFORMED  ? "not an address; expected one such as sip:home@example.org"
	     : e == ERR_NOTFOUND ? "no such account"
	     : e == ERR_LIMIT    ? "all calls of this daemon are taken"
	     : e == ERR_DENIED   ? "this daemon gives out no keys: export-keys is not yes in its configuration"
				 : err_name(e));
}

static void do_hangup(const struct command *k)
{
	uint64_t now_us = loop_now_us(k->e->loop);
	const char *to = text_of(k, "to");
	char aor[CFG_AOR_MAX] = "";
	struct vpn_call_status s;
	unsigned ids[256], n = 0, at = 0;
	json_int_t call;

	if (!number_of(k, "call", UINT32_MAX, &call) || (to && sdp_aor_normal(span_str(to), aor, sizeof(aor)) != OK) ||
	    (!call && !to && !flag_of(k, "all") && !json_object_get(k->rq, "request"))) {
		wrong(k, "hangup needs \"call\", \"request\", \"to\" or \"all\"");
		return;
	}
	if (json_object_get(k->rq, "request")) { /* a call that this connection made, by the id of its command */
		const struct request *r = control_find(k->c, RQ_CALL, json_object_get(k->rq, "request"));

		if (!r || !r->call) {
			wrong(k, "this connection has no such call");
			return;
		}
		call = r->call;
	}
	while (n < 256 && vpn_call_status(k->e->vpn, &at, &s))
		if (s.id == (unsigned)call || (to && !strcmp(s.peer, aor)) || flag_of(k, "all"))
			ids[n++] = s.id;
	for (unsigned i = 0; i < n; i++)
		(void)!vpn_hangup(k->e->vpn, now_us, ids[i]);
	engine_drain(k->e);
	if (n || flag_of(k, "all"))
		done(k, REASON_OK, "");
	else
		wrong(k, "no such call");
}

/* The call that "call" or "peer" names. 1: found; 0: there is none; -1: neither is given, or it has no form. */
static int call_named(const struct command *k, struct vpn_call_status *ret)
{
	char aor[CFG_AOR_MAX] = "";
	json_int_t call;
	unsigned at = 0;

	if (!number_of(k, "call", UINT32_MAX, &call) || (!call && !peer_aor(k, aor)))
		return -1;
	while (vpn_call_status(k->e->vpn, &at, ret))
		if (call ? ret->id == (unsigned)call : !strcmp(ret->peer, aor))
			return 1;
	return 0;
}

static void do_forward(const struct command *k)
{
	const char *protocol = text_of(k, "protocol"), *host_text = text_of(k, "host");
	struct addr address, *host = host_text ? &address : NULL;
	struct vpn_call_status s = { .id = 0 };
	int found = call_named(k, &s);
	json_int_t port, local_port;
	struct request *r;
	enum err e;

	if (found < 0 || !number_of(k, "port", 65535, &port) || !port || !protocol ||
	    !number_of(k, "local_port", 65535, &local_port) ||
	    (host && addr_parse_ip(span_str(host_text), host) != OK) ||
	    (strcmp(protocol, "tcp") && strcmp(protocol, "udp"))) {
		wrong(k, "forward needs \"call\" or \"peer\", \"protocol\" (tcp or udp) and \"port\"; "
			 "\"host\" is an address of a granted network");
		return;
	}
	if (!found) {
		wrong(k, "no such call");
		return;
	}
	r = control_request(k->c, RQ_FORWARD, k->id);
	if (!r) {
		wrong(k, "too many open requests on this connection");
		return;
	}
	r->call = s.id;
	e = vpn_forward(k->e->vpn, loop_now_us(k->e->loop), r->call, strcmp(protocol, "tcp") ? 17 : 6, host,
			(uint16_t)port, (uint16_t)local_port);
	if (e == OK) {
		engine_drain(k->e); /* its GRANTED or REFUSED event answers, before any other forward is asked for */
		return;
	}
	control_request_free(k->c->control, r);
	if (e == ERR_NOTFOUND)
		wrong(k, "no such call");
	else
		done(k, REASON_NOT_ALLOWED, "the call is not up, or its grants do not cover this");
}

static void do_ping(const struct command *k)
{
	struct vpn_call_status s;
	int found = call_named(k, &s);
	json_int_t count;
	struct request *r;

	if (found < 0 || !number_of(k, "count", 1000, &count)) {
		wrong(k, "ping needs \"call\" or \"peer\"; \"count\" is at most 1000");
		return;
	}
	if (!found) {
		wrong(k, "no such call");
		return;
	}
	if (s.in_kernel) {
		wrong(k, "this call's packets pass in the kernel, which has no echo of its own: ping an address of the "
			 "network");
		return;
	}
	r = control_request(k->c, RQ_PING, k->id);
	if (r && pings_start(k->e->pings, r->token, s.peer_address, count ? (unsigned)count : 4) == OK)
		return;
	if (r)
		control_request_free(k->c->control, r);
	wrong(k, "too many pings at once");
}

static void answer(const struct command *k, bool yes)
{
	struct vpn_answer a = { .yes = yes };
	json_int_t call, request, seconds;
	const char *why;
	enum err e;

	if (!number_of(k, "call", UINT32_MAX, &call) || !call || !number_of(k, "request", UINT32_MAX, &request) ||
	    !number_of(k, "seconds", 30 * 86400, &seconds)) {
		wrong(k, "answer and decline need \"call\"; \"seconds\" is at most 30 days");
		return;
	}
	a.call = (unsigned)call;
	a.has_request = json_is_integer(json_object_get(k->rq, "request"));
	a.request = (uint32_t)request;
	a.seconds = (uint32_t)seconds;
	e = vpn_answer(k->e->vpn, loop_now_us(k->e->loop), &a, &why);
	engine_drain(k->e);
	done(k,
	     e == OK             ? REASON_OK
	     : e == ERR_NOTFOUND ? REASON_USAGE
	     : e == ERR_DENIED   ? REASON_NOT_ALLOWED
				 : REASON_INTERNAL,
	     why);
}

static void do_answer(const struct command *k)
{
	answer(k, true);
}

static void do_decline(const struct command *k)
{
	answer(k, false);
}

/* ---- trust ---- */

static json_t *key_line(const struct command *k, const char *event, const char *who, const char *aor,
			const uint8_t key[SPKI_HASH])
{
	char text[KEY_TEXT];

	return json_pack("{s:O, s:s, s:s, s:s}", "id", k->id, "event", event, who, aor, "key", key_text(key, text));
}

static void trust_list(const struct command *k)
{
	const struct trust_pin *p;
	unsigned at = 0;

	while ((p = trust_next(vpn_trust(k->e->vpn), &at)) != NULL) {
		json_t *o = key_line(k, "pin", "peer", p->aor, p->key);

		json_object_set_new(o, "level", json_string(trust_level_name(p->level)));
		json_object_set_new(o, "since", json_integer(p->since_s));
		json_object_set_new(o, "config", json_boolean(p->from_config));
		control_send(k->c, o);
	}
	done(k, REASON_OK, "");
}

static void trust_export(const struct command *k)
{
	struct vpn_account_status s;

	for (unsigned i = 0; vpn_account_status(k->e->vpn, i, &s); i++)
		control_send(k->c, key_line(k, "key", "aor", s.aor, s.key));
	done(k, REASON_OK, "");
}

static void trust_change(const struct command *k, bool add)
{
	const char *key = text_of(k, "key");
	uint8_t hash[SPKI_HASH];
	char aor[CFG_AOR_MAX];
	enum err e;

	if (!peer_aor(k, aor) || (add && !key) || (key && key_parse(span_str(key), hash) != OK)) {
		wrong(k, "trust needs \"peer\" and a \"key\" of the form sha-256:<64 hex digits>");
		return;
	}
	e = add ? trust_add(vpn_trust(k->e->vpn), aor, hash, LEVEL_PINNED, loop_wall_s(), flag_of(k, "add_device"))
		: trust_remove(vpn_trust(k->e->vpn), aor, key ? hash : NULL);
	if (e == OK)
		e = vpn_trust_changed(k->e->vpn, loop_now_us(k->e->loop));
	switch (e) {
	case OK: done(k, REASON_OK, ""); break;
	case ERR_DENIED:
		wrong(k,
		      add ? "this address has another key already, or this key another address; remove that pin first"
			  : "this pin stands in the configuration file; remove it there");
		break;
	case ERR_NOTFOUND: wrong(k, "no such pin"); break;
	default: done(k, REASON_INTERNAL, err_name(e)); break;
	}
}

static void do_trust(const struct command *k)
{
	const char *op = text_of(k, "op");

	if (op && !strcmp(op, "list"))
		trust_list(k);
	else if (op && !strcmp(op, "export"))
		trust_export(k);
	else if (op && (!strcmp(op, "add") || !strcmp(op, "remove")))
		trust_change(k, !strcmp(op, "add"));
	else
		wrong(k, "trust needs \"op\": list, add, remove or export");
}

static void do_explain(const struct command *k)
{
	static const char *const verdicts[] = { [POLICY_NO] = "no", [POLICY_YES] = "yes", [POLICY_ASK] = "ask" };
	char aor[CFG_AOR_MAX];
	const char *service = text_of(k, "service");
	struct policy_question q = { .act = service ? POLICY_GRANT : POLICY_TALK,
				     .evidence = EVIDENCE_AUTHENTICATED,
				     .peer = aor,
				     .service = service };
	const char *key = text_of(k, "key");
	uint8_t hash[SPKI_HASH];
	const struct cfg_peer *p;
	struct policy_answer a;
	json_t *extra;

	if (!peer_aor(k, aor) || (key && key_parse(span_str(key), hash) != OK)) {
		wrong(k, "explain needs \"peer\"; \"key\" has the form sha-256:<64 hex digits>");
		return;
	}
	q.key = key ? hash : NULL;
	p = config_peer(vpn_config(k->e->vpn), aor);
	q.bare = p && p->bare;
	policy_decide(vpn_config(k->e->vpn), vpn_trust(k->e->vpn), &q, &a);
	extra = json_pack("{s:s, s:s, s:s}", "verdict", verdicts[a.verdict], "rule", a.rule, "level",
			  trust_level_name(a.level));
	control_done(k->c, k->id, REASON_OK, "", extra);
}

static void do_log(const struct command *k)
{
	const char *line;

	for (unsigned i = 0; (line = journal_line(k->e->journal, i)) != NULL && !k->c->dead; i++)
		control_send(k->c,
			     json_pack("{s:O, s:s, s:o}", "id", k->id, "event", "log", "line", json_of_line(line)));
	if (!flag_of(k, "follow"))
		done(k, REASON_OK, "");
	else if (!control_request(k->c, RQ_LOG, k->id))
		wrong(k, "too many open requests on this connection");
}

static void do_status(const struct command *k)
{
	json_t *extra, *status;
	json_int_t call;

	if (!number_of(k, "call", UINT32_MAX, &call)) {
		wrong(k, "\"call\" is the number of a call");
		return;
	}
	status = json_of_status(k->e, loop_now_us(k->e->loop), (unsigned)call);
	if (json_dumpb(status, NULL, 0, JSON_COMPACT) > TIELINE_LINE_MAX - 1024) {
		json_decref(status);
		done(k, REASON_USAGE, "the status of all calls does not fit into a line; ask for one with \"call\"");
		return;
	}
	extra = json_object();
	json_object_set_new(extra, "status", status);
	control_done(k->c, k->id, REASON_OK, "", extra);
}

static void do_subscribe(const struct command *k)
{
	if (!control_request(k->c, RQ_SUBSCRIBE, k->id))
		wrong(k, "too many open requests on this connection");
}

static void do_reload(const struct command *k)
{
	char why[400] = "";
	enum err e = engine_reload(k->e, why, sizeof(why));

	done(k, e == OK ? REASON_OK : REASON_INPUT, why);
}

void command_line(struct connection *c, const char *text, size_t len)
{
	static const struct {
		const char *name;
		void (*run)(const struct command *k);
	} commands[] = {
		{ "call", do_call },       { "hangup", do_hangup }, { "status", do_status },
		{ "forward", do_forward }, { "trust", do_trust },   { "explain", do_explain },
		{ "ping", do_ping },       { "log", do_log },       { "subscribe", do_subscribe },
		{ "reload", do_reload },   { "answer", do_answer }, { "decline", do_decline },
	};
	json_error_t why;
	struct command k = { .c = c, .e = c->control->e, .rq = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why) };
	const char *what = json_string_value(json_object_get(k.rq, "do"));
	bool found = false, id_ok;

	k.id = json_object_get(k.rq, "id");
	id_ok = !k.id || json_is_null(k.id) || json_is_integer(k.id) ||
		(json_is_string(k.id) && json_string_length(k.id) <= ID_MAX);
	k.id = k.id && id_ok ? json_incref(k.id) : json_null();
	for (size_t i = 0; id_ok && what && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, what)) {
			found = true;
			commands[i].run(&k);
		}
	if (!json_is_object(k.rq))
		wrong(&k, "not a JSON object");
	else if (!id_ok)
		wrong(&k, "\"id\" is a whole number, or a text of at most 64 bytes");
	else if (!found)
		wrong(&k, "unknown command; this version has call, hangup, answer, decline, status, forward, trust, "
			  "explain, ping, log, "
			  "subscribe, reload");
	json_decref(k.id);
	json_decref(k.rq);
}
