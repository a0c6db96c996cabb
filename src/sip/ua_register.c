/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Accounts and their registrations (RFC 3261, 10.2; RFC 5626, 4.5). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "crypto/secret.h"
#include "sip/ua_impl.h"

#define EXPIRES_DEFAULT_S 3600
/* A datagram's way back through a NAT is open for 30 s or more (RFC 4787, 4.3), and nothing tells that the registrar has
 * forgotten us: the registration itself is the keepalive. */
#define EXPIRES_UDP_S 120
#define REFRESH_UDP_US SECONDS(25)
#define EXPIRES_MAX_S 86400
#define BACK_OFF_FIRST_S 5
#define BACK_OFF_BASE_S 30
#define BACK_OFF_MAX_S 1800

/* ---- the date ---- */

/* Days from 1970-01-01 of the Gregorian calendar: years begin in March, so that the leap day is the last. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
}

int64_t ua_date_parse(struct span text)
{
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	struct span rest, time;
	uint32_t day, year, h, m, s;
	int64_t month = 0;

	(void)span_cut(text, ',', &rest); /* the day of the week says nothing new */
	if (span_u32(span_word(&rest), 31, &day) != OK || !day)
		return 0;
	text = span_word(&rest);
	for (int i = 0; i < 12; i++)
		if (span_ieq_str(text, months[i]))
			month = i + 1;
	if (!month || span_u32(span_word(&rest), 9999, &year) != OK || year < 1970)
		return 0;
	time = span_word(&rest);
	if (!span_ieq_str(span_trim(rest), "GMT"))
		return 0;
	if (time.len != 8 || time.p[2] != ':' || time.p[5] != ':' || span_u32(span_sub(time, 0, 2), 23, &h) != OK ||
	    span_u32(span_sub(time, 3, 2), 59, &m) != OK || span_u32(span_sub(time, 6, 2), 60, &s) != OK)
		return 0;
	return days_of((int64_t)year, month, day) * 86400 + h * 3600 + m * 60 + s;
}

/* ---- life ---- */

static void fired(void *arg, uint64_t now_us)
{
	struct account *acc = arg;

	if (acc->gone)
		return;
	if (ua_req_busy(&acc->req)) {
		/* The transaction of the last attempt still catches repeats of its answer (timer K), or one is under way and
		 * will arm this timer itself. */
		ua_arm(acc->ua, &acc->timer, now_us + SECONDS(1));
		return;
	}
	acc->req.n_challenged[0] = acc->req.n_challenged[1] = 0;
	acc->req.force_udp = false;
	acc->minimum_taken = false;
	ua_req_start(&acc->req, now_us);
}

void ua_account_free(struct account *acc)
{
	if (!acc)
		return;
	timer_disarm(acc->ua->timers, &acc->timer);
	ua_req_drop(&acc->req);
	if (acc->password)
		secret_wipe(acc->password, strlen(acc->password));
	free(acc->aor);
	free(acc->user);
	free(acc->password);
	free(acc->domain);
	sip_dialog_done(&acc->reg);
	ua_auth_done(&acc->auth[0]);
	ua_auth_done(&acc->auth[1]);
	free(acc);
}

static enum err fill(struct account *acc, const struct sip_account_config *cfg)
{
	struct sip_uri uri;
	size_t cap;
	enum err e;

	if (!cfg->aor || strlen(cfg->aor) >= SIP_AOR_MAX || sip_uri_parse(span_str(cfg->aor), &uri) != OK ||
	    !uri.is_sip || !uri.user.len)
		return ERR_MALFORMED;
	cap = uri.host.len + 8;
	acc->aor = span_dup(span_str(cfg->aor));
	acc->user = span_dup(span_str(cfg->user));
	acc->password = span_dup(span_str(cfg->password));
	acc->domain = malloc(cap);
	if (!acc->aor || !acc->user || !acc->password || !acc->domain)
		return ERR_NOMEM;
	(void)snprintf(acc->domain, cap, uri.host_is_ip6 ? "sip:[%.*s]" : "sip:%.*s", (int)uri.host.len,
		       (const char *)uri.host.p);
	e = sip_dialog_out(&acc->reg, &acc->ua->rng, acc->aor, acc->aor, acc->domain);
	if (e != OK)
		return e;
	ua_req_init(&acc->req, REQ_REGISTER, acc, &acc->reg);
	rng_text(&acc->ua->rng, acc->contact_user, sizeof(acc->contact_user) - 1);
	acc->server = cfg->server;
	acc->transport = cfg->transport;
	acc->expires_s = cfg->expires_s                    ? cfg->expires_s
			 : cfg->transport == TRANSPORT_UDP ? EXPIRES_UDP_S
							   : EXPIRES_DEFAULT_S;
	acc->insecure_digest = cfg->insecure_digest;
	acc->timer.fire = fired;
	acc->timer.arg = acc;
	return OK;
}

enum err sip_ua_account_add(struct sip_ua *ua, uint64_t now_us, const struct sip_account_config *cfg,
			    const struct addr *local, unsigned *ret_account)
{
	struct account *acc;
	unsigned n = 0;
	enum err e;

	for (acc = ua->accounts; acc; acc = acc->next)
		n++;
	if (n >= UA_ACCOUNTS_MAX)
		return ERR_LIMIT;
	acc = calloc(1, sizeof(*acc));
	if (!acc)
		return ERR_NOMEM;
	acc->ua = ua;
	e = fill(acc, cfg);
	if (e != OK) {
		ua_account_free(acc);
		return e;
	}
	acc->local = *local;
	acc->id = ++ua->n_accounts_ever;
	acc->next = ua->accounts;
	ua->accounts = acc;
	*ret_account = acc->id;
	fired(acc, now_us);
	ua_pump(ua, now_us);
	return OK;
}

static void streams_close(struct account *acc, uint64_t now_us)
{
	if (acc->aux)
		ua_stream_close(acc->ua, now_us, acc->aux);
	if (acc->stream)
		ua_stream_close(acc->ua, now_us, acc->stream);
}

void sip_ua_account_rebind(struct sip_ua *ua, uint64_t now_us, unsigned account, const struct addr *local,
			   const struct addr *server)
{
	struct account *acc = ua_account_find(ua, account);

	if (!acc)
		return;
	acc->local = *local;
	acc->server = *server;
	acc->registered = false; /* so that closing its streams is no failure */
	acc->n_failures = 0;
	ua_req_drop(&acc->req);
	streams_close(acc, now_us);
	timer_disarm(ua->timers, &acc->timer);
	fired(acc, now_us);
	ua_pump(ua, now_us);
}

void sip_ua_account_remove(struct sip_ua *ua, uint64_t now_us, unsigned account)
{
	struct account *acc = ua_account_find(ua, account);

	if (!acc)
		return;
	acc->removing = true;
	timer_disarm(ua->timers, &acc->timer);
	if (acc->req.waits || (!acc->registered && !acc->req.txn)) {
		acc->gone = true; /* nothing that the registrar knows of */
		ua_req_drop(&acc->req);
	} else {
		ua_req_drop(&acc->req);
		fired(acc, now_us);
	}
	acc->registered = false;
	ua_pump(ua, now_us);
}

bool sip_ua_registered(const struct sip_ua *ua, unsigned account)
{
	const struct account *acc = ua_account_find(ua, account);

	return acc && acc->registered;
}

int64_t sip_ua_server_date_s(const struct sip_ua *ua, unsigned account)
{
	const struct account *acc = ua_account_find(ua, account);

	return acc ? acc->date_s : 0;
}

/* ---- answers ---- */

/* 10.2.4: how long our own Contact is good for; an answer without it goes by Expires, or by what was asked for. */
static uint32_t granted_s(const struct account *acc, const struct sip_msg *m)
{
	struct sip_walk walk = { 0 };
	struct sip_nameaddr n;
	struct span value;
	uint32_t s;

	while (sip_walk_next(m, H_CONTACT, &walk, &n) == OK)
		if (!n.star && span_eq_str(n.uri.user, acc->contact_user) && sip_param(n.params, "expires", &value) &&
		    span_u32(value, UINT32_MAX, &s) == OK)
			return s;
	return sip_seconds(m, H_EXPIRES, &s) ? s : acc->expires_s;
}

static void tell(struct account *acc, enum sip_event_kind kind, unsigned status, struct span reason, bool fatal)
{
	struct ua_event *ev = ua_event_new(acc->ua, kind, NULL, NULL, SPAN_NONE);

	if (!ev)
		return; /* sip_ua_registered() tells as well */
	ev->e.account = acc->id;
	ev->e.status = status;
	ev->e.fatal = fatal;
	ev->e.path = acc->req.path;
	ua_event_reason(ev, reason);
	ua_event_queue(acc->ua, ev);
}

void ua_register_answer(struct account *acc, uint64_t now_us, const struct sip_msg *m)
{
	uint32_t granted, minimum = 0;
	uint64_t half_us, early_us;

	if (acc->removing) {
		acc->gone = true;
		return;
	}
	if (m->status == 423) {
		/* 10.2.8: too brief. Once an attempt, and within reason. */
		if (acc->minimum_taken || !sip_seconds(m, H_MIN_EXPIRES, &minimum) || minimum <= acc->expires_s ||
		    minimum > EXPIRES_MAX_S) {
			ua_register_failed(acc, now_us, 423, m->reason, 0, false);
			return;
		}
		acc->minimum_taken = true;
		acc->expires_s = minimum;
		ua_req_start(&acc->req, now_us);
		return;
	}
	granted = granted_s(acc, m);
	if (!granted) {
		ua_register_failed(acc, now_us, m->status, SPAN_LIT("the exchange did not keep the registration"), 0,
				   false);
		return;
	}
	if (granted > EXPIRES_MAX_S)
		granted = EXPIRES_MAX_S;
	acc->n_failures = 0;
	acc->date_s = ua_date_parse(sip_value(m, H_DATE));
	/* Half of the time, or 60 s before the end where that is later: either leaves time for a retry. */
	half_us = SECONDS(granted) / 2;
	early_us = granted > 60 ? SECONDS(granted - 60) : 0;
	if (half_us < early_us)
		half_us = early_us;
	if (acc->transport == TRANSPORT_UDP && half_us > REFRESH_UDP_US)
		half_us = REFRESH_UDP_US;
	ua_arm(acc->ua, &acc->timer, now_us + half_us);
	if (!acc->registered)
		log_info(&acc->ua->log, "%s is registered for %u s", acc->aor, (unsigned)granted);
	acc->registered = true;
	tell(acc, SIP_REGISTERED, m->status, m->reason, false);
}

/* RFC 5626, 4.5: doubles from a base time up to a maximum, of which a random part between a half and all is waited. */
static uint64_t back_off_us(const struct account *acc)
{
	uint32_t s = BACK_OFF_FIRST_S, half_ms;

	if (acc->n_failures > 1) {
		s = BACK_OFF_BASE_S;
		for (unsigned i = 2; i < acc->n_failures && s < BACK_OFF_MAX_S; i++)
			s *= 2;
		if (s > BACK_OFF_MAX_S)
			s = BACK_OFF_MAX_S;
	}
	half_ms = s * 500;
	return MS(half_ms) + MS(rng_below(&acc->ua->rng, half_ms + 1));
}

void ua_register_failed(struct account *acc, uint64_t now_us, unsigned status, struct span reason, uint32_t wait_s,
			bool fatal)
{
	uint64_t wait_us;

	if (acc->removing) {
		acc->gone = true;
		return;
	}
	acc->registered = false;
	acc->n_failures++;
	tell(acc, SIP_REGISTER_FAILED, status, reason, fatal);
	log_warn(&acc->ua->log, "%s is not registered (status %u)%s", acc->aor, status, fatal ? ", for good" : "");
	if (fatal)
		return;
	wait_us = back_off_us(acc);
	if (wait_s > BACK_OFF_MAX_S)
		wait_s = BACK_OFF_MAX_S;
	ua_arm(acc->ua, &acc->timer, now_us + (wait_us > SECONDS(wait_s) ? wait_us : SECONDS(wait_s)));
}

void ua_register_flow_lost(struct account *acc, uint64_t now_us)
{
	/* A REGISTER under way fails by itself. */
	if (acc->registered && !ua_req_busy(&acc->req))
		ua_register_failed(acc, now_us, 0, SPAN_LIT("the connection to the exchange was lost"), 0, false);
}
