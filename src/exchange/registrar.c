/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/registrar.c - bindings (RFC 3261, 10.3): kept in memory, each with the flow that its REGISTER came by. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "exchange/impl.h"

#define EXPIRES_DEFAULT_S 3600

/* ---- looking ---- */

static bool same_user_part(const struct sip_uri *a, const struct sip_uri *b)
{
	return a->user.len && span_eq(a->user, b->user);
}

/* Counts the bindings of l that fit; the exact one ends the search. */
static bool search(const struct location *l, const struct sip_uri *contact, const struct binding **found,
		   unsigned *n_found)
{
	struct sip_uri u;

	for (unsigned i = 0; i < l->n; i++) {
		if (sip_uri_parse(span_str(l->b[i]->contact), &u) != OK)
			continue;
		if (sip_uri_same(&u, contact)) {
			*found = l->b[i];
			return true;
		}
		/* A device that came back by another port or transport keeps the name that it chose for itself. */
		if (same_user_part(&u, contact)) {
			*found = l->b[i];
			++*n_found;
		}
	}
	return false;
}

const struct binding *registrar_device(const struct exchange *x, unsigned user, const struct sip_uri *contact)
{
	const struct binding *b = NULL;
	unsigned n = 0;

	return search(&x->locations[user], contact, &b, &n) || n == 1 ? b : NULL;
}

const struct binding *registrar_device_any(const struct exchange *x, const struct sip_uri *contact, unsigned *ret_user)
{
	const struct binding *b = NULL;
	unsigned n = 0, user = 0;

	for (unsigned i = 0; i < x->cfg->n_users; i++) {
		unsigned before = n;

		if (search(&x->locations[i], contact, &b, &n)) {
			*ret_user = i;
			return b;
		}
		if (n > before)
			user = i;
	}
	if (n != 1)
		return NULL;
	*ret_user = user;
	return b;
}

bool registrar_has_flow(const struct exchange *x, unsigned user, const struct path *path)
{
	const struct location *l = &x->locations[user];

	for (unsigned i = 0; i < l->n; i++)
		if (path_eq(&l->b[i]->path, path))
			return true;
	return false;
}

/* ---- changing ---- */

static void arm(struct location *l)
{
	uint64_t due = TIME_NEVER;
	enum err e;

	for (unsigned i = 0; i < l->n; i++)
		if (l->b[i]->expires_us < due)
			due = l->b[i]->expires_us;
	e = timer_arm(l->x->timers, &l->timer, due);
	(void)e; /* it is armed from the beginning: that takes no memory */
}

static void unbind(struct location *l, unsigned i)
{
	free(l->b[i]);
	l->b[i] = l->b[--l->n];
	l->b[l->n] = NULL;
	l->x->stats.n_bindings--;
}

static const char *name_of(const struct location *l)
{
	return l->x->cfg->users[l - l->x->locations].name;
}

void registrar_fired(void *arg, uint64_t now_us)
{
	struct location *l = arg;

	for (unsigned i = l->n; i-- > 0;)
		if (l->b[i]->expires_us <= now_us) {
			unbind(l, i);
			log_info(&l->x->log, "%s: a registration has expired, %u left", name_of(l), l->n);
		}
	arm(l);
}

void registrar_stream_lost(struct exchange *x, uint64_t stream)
{
	for (unsigned u = 0; u < x->cfg->n_users; u++) {
		struct location *l = &x->locations[u];
		unsigned before = l->n;

		for (unsigned i = l->n; i-- > 0;)
			if (l->b[i]->path.transport != TRANSPORT_UDP && l->b[i]->path.stream == stream)
				unbind(l, i);
		if (l->n == before)
			continue;
		arm(l);
		log_info(&x->log, "%s: a registration has gone with its connection, %u left", name_of(l), l->n);
	}
}

void registrar_free(struct exchange *x)
{
	for (unsigned u = 0; x->locations && u < x->cfg->n_users; u++) {
		struct location *l = &x->locations[u];

		while (l->n)
			unbind(l, l->n - 1);
		timer_disarm(x->timers, &l->timer);
	}
	free(x->locations);
	x->locations = NULL;
}

/* ---- one REGISTER ---- */

/* What it wants for one Contact: a binding made beforehand, so that nothing can fail half-way; NULL: its removal. */
struct wish {
	struct sip_uri uri;
	struct binding *fresh;
};

struct wishes {
	struct wish w[EXCHANGE_BINDINGS_MAX];
	unsigned n;
	bool all_away; /* Contact: * */
	unsigned status; /* refusal, 0: none */
	const char *reason;
};

static bool refuse(struct wishes *all, unsigned status, const char *reason)
{
	all->status = status;
	all->reason = reason;
	return false;
}

/* 10.2.1.1 and 10.3 (7): the Contact's own time, else that of Expires; what is malformed counts as absent. */
static uint32_t asked_s(const struct sip_msg *rq, const struct sip_nameaddr *n)
{
	struct span v;
	uint32_t s;

	if (sip_param(n->params, "expires", &v) && span_u32(v, UINT32_MAX, &s) == OK)
		return s;
	return sip_seconds(rq, H_EXPIRES, &s) ? s : EXPIRES_DEFAULT_S;
}

/* It is written back in brackets and goes out as a Request-URI, which has no headers (19.1.1). */
static bool contact_ok(const struct sip_nameaddr *n)
{
	const struct span *t = &n->uri.text;

	if (n->star || !n->uri.is_sip || n->uri.secure || n->uri.headers.len || t->len >= CONTACT_MAX)
		return false;
	for (size_t i = 0; i < t->len; i++)
		if (t->p[i] <= ' ' || t->p[i] >= 0x7f || strchr("<>\"", t->p[i]))
			return false;
	return true;
}

static struct binding *binding_new(const struct sip_msg *rq, const struct sip_uri *uri, const struct path *path,
				   uint64_t expires_us)
{
	struct binding *b = malloc(sizeof(*b) + uri->text.len + rq->call_id.len + 2);

	if (!b)
		return NULL;
	*b = (struct binding){ .path = *path, .expires_us = expires_us, .cseq = rq->cseq };
	memcpy(b->contact, uri->text.p, uri->text.len);
	b->contact[uri->text.len] = 0;
	b->call_id = b->contact + uri->text.len + 1;
	memcpy(b->call_id, rq->call_id.p, rq->call_id.len);
	b->call_id[rq->call_id.len] = 0;
	return b;
}

static bool add_wish(struct wishes *all, uint64_t now_us, const struct sip_msg *rq, const struct path *path,
		     const struct sip_nameaddr *n)
{
	struct wish *w;
	uint32_t s = asked_s(rq, n);

	if (!contact_ok(n))
		return refuse(all, 400, "Contact not usable");
	if (all->n == EXCHANGE_BINDINGS_MAX)
		return refuse(all, 400, "Too Many Contacts");
	for (unsigned i = 0; i < all->n; i++)
		if (sip_uri_same(&all->w[i].uri, &n->uri))
			return refuse(all, 400, "Contact given twice");
	if (s && s < EXCHANGE_EXPIRES_MIN_S)
		return refuse(all, 423, NULL);
	if (s > EXCHANGE_EXPIRES_MAX_S)
		s = EXCHANGE_EXPIRES_MAX_S;
	w = &all->w[all->n++];
	*w = (struct wish){ .uri = n->uri };
	if (s) {
		w->fresh = binding_new(rq, &n->uri, path, now_us + SECONDS(s));
		if (!w->fresh)
			return refuse(all, 500, NULL);
	}
	return true;
}

static bool collect(struct wishes *all, uint64_t now_us, const struct sip_msg *rq, const struct path *path)
{
	struct sip_walk walk = { .at = 0 };
	struct sip_nameaddr n;
	uint32_t s;
	enum err e;

	if (rq->call_id.len > CALL_ID_MAX)
		return refuse(all, 400, "Call-ID too long");
	while ((e = sip_walk_next(rq, H_CONTACT, &walk, &n)) == OK) {
		if (all->all_away || (n.star && all->n))
			return refuse(all, 400, "Contact: * stands alone");
		if (n.star && (!sip_seconds(rq, H_EXPIRES, &s) || s))
			return refuse(all, 400, "Contact: * wants Expires: 0");
		all->all_away |= n.star;
		if (!n.star && !add_wish(all, now_us, rq, path, &n))
			return false;
	}
	return e == ERR_NOTFOUND || refuse(all, 400, "Contact");
}

static struct binding **find(struct location *l, const struct sip_uri *uri)
{
	struct sip_uri u;

	for (unsigned i = 0; i < l->n; i++)
		if (sip_uri_parse(span_str(l->b[i]->contact), &u) == OK && sip_uri_same(&u, uri))
			return &l->b[i];
	return NULL;
}

/* 10.3 (6) and (7): an older request of the same series changes nothing. */
static bool in_order(const struct binding *b, const struct sip_msg *rq)
{
	return !span_eq_str(rq->call_id, b->call_id) || rq->cseq > b->cseq;
}

static bool all_in_order(struct location *l, const struct wishes *all, const struct sip_msg *rq)
{
	for (unsigned i = 0; all->all_away && i < l->n; i++)
		if (!in_order(l->b[i], rq))
			return false;
	for (unsigned i = 0; i < all->n; i++) {
		struct binding **b = find(l, &all->w[i].uri);

		if (b && !in_order(*b, rq))
			return false;
	}
	return true;
}

/* A device that lost its connection registers in the same series (10.2: one Call-ID until it is started anew) by another flow:
 * what it had by the old one is no more. */
static void drop_moved(struct location *l, const struct sip_msg *rq, const struct sip_uri *uri, const struct path *path)
{
	struct sip_uri u;

	for (unsigned i = l->n; i-- > 0;)
		if (span_eq_str(rq->call_id, l->b[i]->call_id) && l->b[i]->cseq < rq->cseq &&
		    !path_eq(&l->b[i]->path, path) && sip_uri_parse(span_str(l->b[i]->contact), &u) == OK &&
		    same_user_part(&u, uri))
			unbind(l, i);
}

static void make_room(struct location *l)
{
	unsigned first = 0;

	if (l->n < EXCHANGE_BINDINGS_MAX)
		return;
	for (unsigned i = 1; i < l->n; i++)
		if (l->b[i]->expires_us < l->b[first]->expires_us)
			first = i;
	unbind(l, first);
	log_warn(&l->x->log, "%s: more than %u devices, the one that would have expired first is dropped", name_of(l),
		 EXCHANGE_BINDINGS_MAX);
}

/* Nothing here can fail. */
static void apply(struct location *l, struct wishes *all, const struct sip_msg *rq, const struct path *path)
{
	char text[ADDR_TEXT];

	while (all->all_away && l->n)
		unbind(l, l->n - 1);
	for (unsigned i = 0; i < all->n; i++) {
		struct binding **old = find(l, &all->w[i].uri), *fresh = all->w[i].fresh;

		all->w[i].fresh = NULL;
		if (!fresh) {
			if (old)
				unbind(l, (unsigned)(old - l->b));
			continue;
		}
		l->x->stats.n_registered++;
		if (old) {
			free(*old);
			*old = fresh;
			continue;
		}
		drop_moved(l, rq, &all->w[i].uri, path);
		make_room(l);
		l->b[l->n++] = fresh;
		l->x->stats.n_bindings++;
		log_info(&l->x->log, "%s: registered by %s from %s, %u in all", name_of(l),
			 transport_name(path->transport), addr_write(&path->remote, text), l->n);
	}
	arm(l);
}

/* ---- answers ---- */

/* 20.17: "Sat, 13 Nov 2010 23:29:00 GMT" */
static void write_date(struct wr *w, int64_t unix_s)
{
	static const char *const days[] = { "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed" };
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	int64_t day = unix_s / 86400, s = unix_s % 86400;
	/* Gregorian calendar in periods of 400 years; years begin in March, so that the leap day is the last. */
	int64_t z = day + 719468, era = z / 146097, doe = z % 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365,
		doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153, d = doy - (153 * mp + 2) / 5 + 1, m = mp < 10 ? mp + 3 : mp - 9;
	int64_t y = yoe + era * 400 + (m <= 2);

	if (unix_s < 0)
		return;
	sip_write_headerf(w, H_DATE, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[day % 7], (int)d, months[m - 1],
			  (int)y, (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
}

static void write_bindings(struct wr *w, const struct location *l, uint64_t now_us)
{
	for (unsigned i = 0; i < l->n; i++) {
		const struct binding *b = l->b[i];
		uint64_t left = b->expires_us > now_us ? (b->expires_us - now_us) / 1000000 : 0;

		sip_write_headerf(w, H_CONTACT, "<%s>;expires=%u", b->contact, (unsigned)left);
	}
}

void registrar_request(struct exchange *x, uint64_t now_us, struct sip_txn *txn, const struct sip_msg *rq,
		       const struct path *path, unsigned user)
{
	struct location *l = &x->locations[user];
	struct wishes all = { .n = 0 };
	struct wr w;

	if (collect(&all, now_us, rq, path) && !all_in_order(l, &all, rq))
		(void)refuse(&all, 400, "CSeq is not higher than before");
	if (!all.status)
		apply(l, &all, rq, path);
	for (unsigned i = 0; i < all.n; i++)
		free(all.w[i].fresh);
	w = answer_begin(x, sip_txn_path(txn), rq, all.status ? all.status : 200, all.reason);
	if (all.status == 423)
		sip_write_headerf(&w, H_MIN_EXPIRES, "%u", EXCHANGE_EXPIRES_MIN_S);
	if (all.status)
		exchange_refused(x, now_us, path, rq, all.reason ? all.reason : sip_reason_phrase(all.status));
	else
		write_bindings(&w, l, now_us);
	write_date(&w, x->env.wall_s(x->env.arg));
	sip_write_end(&w, NULL, SPAN_NONE);
	(void)answer_done(txn, now_us, all.status ? all.status : 200, &w);
}
