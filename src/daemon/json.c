/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/json.c - the control protocol's objects (docs/control-protocol.md). */
#include <string.h>

#include "base/text.h"
#include "daemon/engine.h"

static json_t *addr_json(const struct addr *a)
{
	char text[ADDR_TEXT];

	return a->family == ADDR_NONE ? json_null() : json_string(addr_write(a, text));
}

static json_t *key_json(const uint8_t key[SPKI_HASH])
{
	char text[KEY_TEXT];

	return json_string(key_text(key, text));
}

static const char *protocol_name(uint8_t p)
{
	return p == 6 ? "tcp" : p == 17 ? "udp" : p ? "any" : "network";
}

static json_t *inner_json(const uint8_t ip[16])
{
	struct addr a = addr_of(span_of(ip, 16), 0);
	char text[ADDR_TEXT];

	return json_string(addr_write_ip(&a, text));
}

static void add_ip(json_t *array, const struct addr *a)
{
	char text[ADDR_TEXT];

	if (a->family != ADDR_NONE)
		json_array_append_new(array, json_string(addr_write_ip(a, text)));
}

/* What it reaches, as whom (nothing: by the inner address), and who knows names there. */
static void network_json(json_t *o, const struct vpn_network *n)
{
	json_t *prefixes = json_array(), *addresses = json_array(), *dns = json_array();
	char text[ADDR_TEXT];

	for (unsigned i = 0; i < n->n_prefixes; i++)
		json_array_append_new(prefixes, json_string(addr_prefix_write(&n->prefixes[i], text)));
	add_ip(addresses, &n->ip4);
	add_ip(addresses, &n->ip6);
	for (unsigned i = 0; i < n->n_dns; i++)
		add_ip(dns, &n->dns[i]);
	json_object_set_new(o, "prefixes", prefixes);
	json_object_set_new(o, "addresses", addresses);
	json_object_set_new(o, "dns", dns);
}

/* Foreign text (names of services) is printable by the time it is here or escaped. */
static json_t *text_json(const char *s)
{
	char safe[1024];

	return json_string(text_escape(span_str(s), safe, sizeof(safe)));
}

json_t *json_of_line(const char *text)
{
	char safe[1024];
	size_t at = 0;

	for (; text[at] && at < sizeof(safe) - 1; at++)
		safe[at] = text[at] >= 0x20 && text[at] < 0x7f ? text[at] : '?';
	safe[at] = 0;
	return json_string(safe);
}

static json_t *names_json(const struct vpn_ask_status *a)
{
	json_t *o = json_array();

	for (unsigned i = 0; i < a->n; i++)
		json_array_append_new(o, text_json(a->names[i]));
	return o;
}

/* What is asked now: a question that is over before it was told has no services. */
static void asked_json(json_t *o, const struct vpn *v, uint64_t now_us, const struct vpn_event *e)
{
	struct vpn_ask_status a = { .n = 0 };

	(void)!vpn_ask_status(v, now_us, e->call, &a);
	json_object_set_new(o, "request", json_integer(e->request));
	json_object_set_new(o, "seconds", json_integer(e->seconds));
	json_object_set_new(o, "services", names_json(&a));
}

json_t *json_of_event(const struct vpn *v, uint64_t now_us, const struct vpn_event *e)
{
	json_t *o = json_object();

	json_object_set_new(o, "event", json_string(vpn_event_name(e->kind)));
	if (!e->call) {
		json_object_set_new(o, "code", json_integer(e->code));
		json_object_set_new(o, "reason", text_json(e->reason));
		return o;
	}
	json_object_set_new(o, "t_ms", json_integer(e->t_ms));
	json_object_set_new(o, "call", json_integer(e->call));
	json_object_set_new(o, "peer", json_string(e->peer));
	if (e->has_key && (e->kind == VPN_EV_AUTHENTICATED || e->kind == VPN_EV_INCOMING || e->kind == VPN_EV_ASKED)) {
		json_object_set_new(o, "key", key_json(e->key));
		json_object_set_new(o, "level", json_string(trust_level_name(e->level)));
	}
	if (e->kind == VPN_EV_PATH || e->kind == VPN_EV_PATH_CHANGED) {
		json_object_set_new(o, "local", addr_json(&e->local));
		json_object_set_new(o, "remote", addr_json(&e->remote));
		json_object_set_new(o, "path", json_string(e->path_type));
	}
	if (e->kind == VPN_EV_KEYS) {
		json_object_set_new(o, "table", json_string(e->keys_table));
		json_object_set_new(o, "line", json_string(e->keys_line));
	}
	if (e->kind == VPN_EV_ASKED)
		asked_json(o, v, now_us, e);
	if (e->kind == VPN_EV_WAITING)
		json_object_set_new(o, "seconds", json_integer(e->seconds));
	if (e->kind == VPN_EV_GRANTED) {
		json_object_set_new(o, "name", text_json(e->name));
		json_object_set_new(o, "protocol", json_string(protocol_name(e->protocol)));
		json_object_set_new(o, "port", json_integer(e->port));
		json_object_set_new(o, "local", addr_json(&e->local));
		json_object_set_new(o, "until", json_integer(e->until_s));
		if (e->has_network)
			network_json(o, &e->network);
	}
	if (e->kind == VPN_EV_REFUSED || e->kind == VPN_EV_ENDED) {
		if (e->kind == VPN_EV_REFUSED)
			json_object_set_new(o, "name", text_json(e->name));
		json_object_set_new(o, "code", json_integer(e->code));
		json_object_set_new(o, "reason", text_json(e->reason));
	}
	return o;
}

static json_t *account_json(const struct vpn_account_status *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "aor", json_string(s->aor));
	json_object_set_new(o, "registered", json_boolean(s->registered));
	json_object_set_new(o, "address", inner_json(s->address));
	json_object_set_new(o, "key", key_json(s->key));
	if (s->reason[0])
		json_object_set_new(o, "reason", text_json(s->reason));
	if (s->clock_off_s)
		json_object_set_new(o, "clock_off_s", json_integer(s->clock_off_s));
	return o;
}

static void count_json(json_t *o, const char *name, uint64_t n)
{
	if (n)
		json_object_set_new(o, name, json_integer((json_int_t)n));
}

static json_t *esp_drops_json(const struct esp_counters *c)
{
	json_t *o = json_object();

	for (int d = 0; d < ESP_N_DROPS; d++)
		count_json(o, esp_drop_name((enum esp_drop)d), c->drops[d]);
	count_json(o, "ecn-odd", c->ecn_odd); /* not all of these are dropped */
	return o;
}

static json_t *call_json(const struct vpn *v, uint64_t now_us, const struct vpn_call_status *s)
{
	struct vpn_ask_status ask;
	json_t *o = json_object(), *services = json_array();

	json_object_set_new(o, "id", json_integer(s->id));
	json_object_set_new(o, "account", json_string(s->account));
	json_object_set_new(o, "peer", json_string(s->peer));
	json_object_set_new(o, "key", key_json(s->key));
	json_object_set_new(o, "level", json_string(trust_level_name(s->level)));
	json_object_set_new(o, "state", json_string(s->state));
	json_object_set_new(o, "direction", json_string(s->outgoing ? "out" : "in"));
	json_object_set_new(o, "since", json_integer(s->since_s));
	json_object_set_new(o, "local", addr_json(&s->local));
	json_object_set_new(o, "remote", addr_json(&s->remote));
	json_object_set_new(o, "path", json_string(s->path_type));
	json_object_set_new(o, "rtt_ms", json_real(s->rtt_us / 1000.0));
	json_object_set_new(o, "mtu", json_integer(s->mtu));
	json_object_set_new(o, "plane", json_string(s->in_kernel ? "kernel" : "user"));
	json_object_set_new(o, "address", inner_json(s->peer_address));
	for (unsigned i = 0; i < s->n_services; i++) {
		const struct vpn_service_status *x = &s->services[i];
		json_t *one = json_object();

		json_object_set_new(one, "name", text_json(x->name));
		json_object_set_new(one, "protocol", json_string(protocol_name(x->protocol)));
		json_object_set_new(one, "port", json_integer(x->port));
		json_object_set_new(one, "local", addr_json(&x->local));
		json_object_set_new(one, "until", json_integer(x->until_s));
		if (x->has_network)
			network_json(one, &x->network);
		json_array_append_new(services, one);
	}
	json_object_set_new(o, "services", services);
	if (vpn_ask_status(v, now_us, s->id, &ask))
		json_object_set_new(o, "asks",
				    json_pack("{s:I, s:I, s:o}", "request", (json_int_t)ask.request, "left_s",
					      (json_int_t)ask.left_s, "services", names_json(&ask)));
	json_object_set_new(o, "bytes_in", json_integer((json_int_t)s->counters.bytes_in));
	json_object_set_new(o, "bytes_out", json_integer((json_int_t)s->counters.bytes_out));
	json_object_set_new(o, "drops", esp_drops_json(&s->counters));
	return o;
}

/* All that was dropped, whether it was of a call or of nobody. */
static json_t *drops_json(const struct engine *e)
{
	struct data_drop data[DATA_DROPS];
	struct vpn_drops d;
	json_t *o;

	vpn_drops(e->vpn, &d);
	data_drops(e, data);
	o = esp_drops_json(&d.esp);
	count_json(o, "ike-unknown", d.ike_unknown);
	count_json(o, "ike-unvalidated-pair", d.ike_unvalidated);
	count_json(o, "stun-unknown", d.stun_unknown);
	for (int i = 0; i < DATA_DROPS; i++)
		count_json(o, data[i].name, data[i].n);
	return o;
}

json_t *json_of_status(const struct engine *e, uint64_t now_us, unsigned call)
{
	const struct vpn *v = e->vpn;
	json_t *o = json_object(), *accounts = json_array(), *calls = json_array();
	struct vpn_account_status a;
	struct vpn_call_status c;
	unsigned at = 0;

	for (unsigned i = 0; vpn_account_status(v, i, &a); i++)
		json_array_append_new(accounts, account_json(&a));
	while (vpn_call_status(v, &at, &c))
		if (!call || c.id == call)
			json_array_append_new(calls, call_json(v, now_us, &c));
	json_object_set_new(o, "accounts", accounts);
	json_object_set_new(o, "calls", calls);
	json_object_set_new(o, "drops", drops_json(e));
	return o;
}
