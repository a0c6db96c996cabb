/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* MOBIKE (RFC 4555): the initiator of the first IKE SA moves, the responder checks and follows (docs/protocol.md).
 *
 *   initiator                                          responder
 *   HDR, SK {N(UPDATE_SA_ADDRESSES), N(NAT_DETECTION)*2, N(COOKIE2)} -->   on the new path
 *   <-- HDR, SK {N(NAT_DETECTION)*2, N(COOKIE2)}  or  {N(UNACCEPTABLE_ADDRESSES), N(COOKIE2)}
 *   <-- HDR, SK {N(COOKIE2)}                           where nothing has proved the path yet (3.7)
 *   HDR, SK {N(COOKIE2)} -->
 *
 * Nothing else moves an SA: no ordinary message, whatever address it comes from (3.8), and no update of an SA that was
 * rekeyed. The window is 1, so that updates come in order (3.5); what is out when the path changes goes on to the new one.
 * A deviation from 3.5: until the check is over, the responder keeps the old address for its IKE messages, too. What is out
 * goes to both, so that a box on the way that writes another source address into an update moves nothing, and the exchange that
 * it made us begin ends on the old path.
 *
 * NO_NATS_ALLOWED is for peers that do not encapsulate in UDP (3.9); with those there is no MOBIKE here. ADDITIONAL_*_ADDRESS tell a responder where else
 * the initiator might be, if it wants to move; ours never does (3.6). */
#include "ike/sa_impl.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"

#define COOKIE2_MIN 8 /* 4.2.5 */
#define COOKIE2_MAX 64
#define SEEN 20 /* a hash of NAT_DETECTION_DESTINATION_IP */

bool ike_sa_mobike(const struct ike_sa *sa)
{
	return sa->move.on;
}

/* 3.9: without UDP a NAT would have to be ruled out each time; such an SA stays at the described addresses. */
bool ike_mobike_wants(const struct ike_sa *sa)
{
	return !sa->cfg.plain_esp;
}

void ike_mobike_up(struct ike_sa *sa, bool supported)
{
	struct ike_move *m = &sa->move;

	m->on = supported && ike_mobike_wants(sa);
	m->esp = sa->path;
	/* 3.3: the addresses are those of IKE_AUTH. It left on more than one path: the responder may have taken another one */
	m->update_due = m->on && sa->cfg.initiator && m->strayed;
}

bool ike_sa_move(struct ike_sa *sa, uint64_t now_us, const struct path *path, bool rebound)
{
	bool established = sa->state == IKE_UP || sa->state == IKE_CLOSING, changed = !path_eq(&sa->path, path);
	struct span msg;

	if (sa->move.on && !sa->cfg.initiator)
		return false;
	ike_sa_set_path(sa, path);
	if (!sa->move.on || !established) {
		sa->move.strayed |= changed && sa->state == IKE_AUTH_SENT;
		return true;
	}
	if (!changed && !rebound)
		return false;
	sa->move.update_due = true;
	/* 3.5: what is out goes on to the new address, and at once */
	if (ike_window_restart(&sa->window, now_us, &msg))
		ike_send(sa, &sa->path, msg);
	ike_tasks_run(sa, now_us);
	return false;
}

/* ---- our requests ---- */

static bool queued(const struct ike_sa *sa, enum ike_task_kind kind)
{
	for (const struct ike_task *t = sa->queue; t; t = t->next)
		if (t->kind == kind)
			return true;
	return false;
}

/* Before all that waits: it is about where the others go. False: no memory. */
static bool queue_first(struct ike_sa *sa, enum ike_task_kind kind)
{
	struct ike_task *t;

	if (queued(sa, kind))
		return true;
	t = calloc(1, sizeof(*t));
	if (!t)
		return false;
	t->kind = kind;
	rng_fill(sa->cfg.rng, t->nonce, sizeof(t->nonce));
	t->next = sa->queue;
	sa->queue = t;
	sa->n_queued++;
	return true;
}

bool ike_mobike_queue(struct ike_sa *sa)
{
	const struct ike_move *m = &sa->move;

	if (sa->state != IKE_UP || sa->want_delete || sa->window.waiting)
		return true;
	if (m->update_due)
		return queue_first(sa, IKE_TASK_UPDATE);
	return !m->has_maybe || queue_first(sa, IKE_TASK_ROUTE);
}

bool ike_mobike_wanted(const struct ike_sa *sa, const struct ike_task *t)
{
	return t->kind != IKE_TASK_ROUTE || sa->move.has_maybe;
}

enum err ike_mobike_build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b)
{
	enum err e = OK;

	t->path = t->kind == IKE_TASK_ROUTE ? sa->move.maybe : sa->path;
	t->spread = false;
	if (t->kind == IKE_TASK_UPDATE)
		ike_build_notify(b, IKE_N_UPDATE_SA_ADDRESSES, SPAN_NONE);
	if (t->kind != IKE_TASK_ROUTE)
		e = ike_build_nat_detection(sa, b, sa->spi_r, &t->path);
	if (t->kind != IKE_TASK_PROBE)
		ike_build_notify(b, IKE_N_COOKIE2, SPAN_OF(t->nonce));
	return e;
}

/* 3.8: who may be behind a NAT that forgets asks where he is seen, whenever he asks for a sign of life. */
bool ike_mobike_asks_nat(const struct ike_sa *sa)
{
	return sa->move.on && sa->cfg.initiator;
}

const struct path *ike_mobike_sent(struct ike_sa *sa, const struct ike_task *t)
{
	bool ours = t && (t->kind == IKE_TASK_UPDATE || t->kind == IKE_TASK_ROUTE);

	/* 3.11: whoever moves may be without a network for a while */
	sa->window.sends_max = ours ? IKE_MOVE_SENDS : 0;
	if (t && t->kind == IKE_TASK_UPDATE)
		sa->move.update_due = false;
	return t && t->kind == IKE_TASK_ROUTE ? &t->path : &sa->path;
}

void ike_mobike_resend(struct ike_sa *sa, struct span msg)
{
	const struct ike_move *m = &sa->move;
	struct ike_task *t = sa->task;

	if (t && t->kind == IKE_TASK_ROUTE) {
		if (m->has_maybe && path_eq(&t->path, &m->maybe) && !t->spread &&
		    sa->window.n_sends <= IKE_ROUTE_ALONE) {
			ike_send(sa, &t->path, msg);
			return;
		}
		t->spread = true; /* 3.7: its answer proves nothing any more */
	}
	ike_send(sa, &sa->path, msg);
	if (m->has_maybe)
		ike_send(sa, &m->maybe, msg);
}

/* ---- answers to them ---- */

/* 3.7: as it was sent, or the SA is closed. */
static bool cookie_ok(struct ike_sa *sa, const struct ike_in *in, const struct ike_task *t)
{
	struct ike_notify n;

	if (ike_notify_find(&in->chain, IKE_N_COOKIE2, &n) && n.data.len == sizeof(t->nonce) &&
	    secret_eq(n.data.p, t->nonce, sizeof(t->nonce)))
		return true;
	sa->detail = "the other side answered for an address at which it was not asked";
	ike_give_up(sa, IKE_FAIL_PROTOCOL, 0);
	return false;
}

/* 3.8: where the responder saw us; from elsewhere than before: its address for us is an old one. */
static void look_at_nat(struct ike_sa *sa, const struct ike_in *in, bool of_update)
{
	struct ike_move *m = &sa->move;
	struct ike_notify n;

	if (!ike_notify_find(&in->chain, IKE_N_NAT_DETECTION_DESTINATION_IP, &n) || n.data.len != SEEN)
		return;
	if (!of_update && m->seen_spi == sa->spi_i && memcmp(m->seen, n.data.p, SEEN) != 0)
		m->update_due = true;
	m->seen_spi = sa->spi_i;
	memcpy(m->seen, n.data.p, SEEN);
}

static enum err moved(struct ike_events *ev, const struct path *path, enum ike_event_kind kind)
{
	struct ike_event *e = ike_events_add(ev, kind);

	if (!e)
		return ERR_NOMEM;
	e->path = *path;
	return OK;
}

/* 3.5. An answer that comes after the next change says nothing; another update follows. */
static enum err update_answered(struct ike_sa *sa, const struct ike_in *in, struct ike_events *ev)
{
	struct ike_move *m = &sa->move;
	const struct ike_task *t = sa->task;

	if (m->update_due || !path_eq(&t->path, &sa->path))
		return OK;
	if (ike_notify_error(&in->chain)) { /* UNACCEPTABLE_ADDRESSES, or whatever it calls it */
		if (moved(ev, &m->esp, IKE_EV_STAYED) != OK)
			return ERR_NOMEM;
		ike_sa_set_path(sa, &m->esp);
		return OK;
	}
	if (moved(ev, &t->path, IKE_EV_MOVED) != OK)
		return ERR_NOMEM;
	m->esp = t->path;
	look_at_nat(sa, in, true);
	return OK;
}

static enum err route_answered(struct ike_sa *sa, struct ike_events *ev)
{
	struct ike_move *m = &sa->move;
	const struct ike_task *t = sa->task;

	if (!m->has_maybe)
		return OK;
	if (t->spread || !path_eq(&t->path, &m->maybe)) {
		if (path_eq(&t->path, &m->maybe) && ++m->n_checks >= IKE_ROUTE_CHECKS) {
			log_warn(&sa->log, "nobody was found at the peer's new address; the old one stays");
			m->has_maybe = false;
		}
		return OK; /* asked again, if there is still something to ask */
	}
	if (moved(ev, &m->maybe, IKE_EV_MOVED) != OK)
		return ERR_NOMEM;
	m->esp = m->maybe;
	m->has_maybe = false;
	ike_sa_set_path(sa, &m->esp);
	return OK;
}

enum err ike_mobike_response(struct ike_sa *sa, const struct ike_in *in, struct ike_events *ev)
{
	switch (sa->task->kind) {
	case IKE_TASK_UPDATE: return cookie_ok(sa, in, sa->task) ? update_answered(sa, in, ev) : ERR_DENIED;
	case IKE_TASK_ROUTE: return cookie_ok(sa, in, sa->task) ? route_answered(sa, ev) : ERR_DENIED;
	case IKE_TASK_PROBE:
		if (ike_mobike_asks_nat(sa))
			look_at_nat(sa, in, false);
		return OK;
	default: return OK;
	}
}

/* ---- the peer's requests ---- */

static enum ike_place place_of(const struct ike_sa *sa, const struct path *path)
{
	return sa->cfg.place ? sa->cfg.place(sa->cfg.place_arg, path) : IKE_PLACE_UNPROVED;
}

/* True: an update by the one who may. */
static bool is_update(const struct ike_sa *sa, const struct ike_in *in)
{
	struct ike_notify n;

	return sa->move.on && !sa->cfg.initiator && !sa->is_old && sa->state == IKE_UP &&
	       ike_notify_find(&in->chain, IKE_N_UPDATE_SA_ADDRESSES, &n);
}

enum err ike_mobike_answer(const struct ike_sa *sa, const struct ike_in *in, struct ike_build *b, struct ike_events *ev)
{
	struct ike_notify n;
	enum err e = OK;

	if (!sa->move.on)
		return OK;
	if (is_update(sa, in)) {
		enum ike_place place = place_of(sa, in->path);

		if (place == IKE_PLACE_NO)
			ike_build_notify(b, IKE_N_UNACCEPTABLE_ADDRESSES, SPAN_NONE);
		else if (place == IKE_PLACE_PROVED && !path_eq(in->path, &sa->move.esp))
			e = moved(ev, in->path, IKE_EV_MOVED);
	}
	if (e == OK && ike_notify_find(&in->chain, IKE_N_NAT_DETECTION_SOURCE_IP, &n))
		e = ike_build_nat_detection(sa, b, sa->spi_r, in->path);
	if (e == OK && ike_notify_find(&in->chain, IKE_N_COOKIE2, &n) && n.data.len >= COOKIE2_MIN &&
	    n.data.len <= COOKIE2_MAX)
		ike_build_notify(b, IKE_N_COOKIE2, n.data);
	return e;
}

void ike_mobike_commit(struct ike_sa *sa, const struct ike_in *in)
{
	enum ike_place place = is_update(sa, in) ? place_of(sa, in->path) : IKE_PLACE_NO;
	struct ike_move *m = &sa->move;
	struct span msg;

	if (place == IKE_PLACE_NO)
		return;
	m->n_checks = 0;
	m->has_maybe = place == IKE_PLACE_UNPROVED && !path_eq(in->path, &m->esp);
	if (m->has_maybe) {
		m->maybe = *in->path;
	} else {
		m->esp = *in->path;
		ike_sa_set_path(sa, in->path);
	}
	/* what is out has perhaps gone nowhere until now */
	if (ike_window_restart(&sa->window, in->now_us, &msg))
		ike_mobike_resend(sa, msg);
}
