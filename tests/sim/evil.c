/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/evil.c - the hostile signalling path: descriptions are rewritten as they leave the exchange. At level pinned
 * it may deny service and nothing else (docs/threat-model.md). It edits text, with no code of the daemons. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sim.h"

enum op {
	NOTHING,
	REMOVE,
	FLIP,
	LAST_DIGIT,
	OTHER_KEY,
	OTHER_AOR,
	OTHER_SETUP,
	OTHER_ADDRESS,
	STRIP,
	ATTACKER,
	BLACK_HOLE,
	TO_LINE
};

/* What the caller may end with; UP: the change does not matter. */
#define UP (-1)
static const struct {
	const char *name;
	bool on_answer;
	const char *line; /* the lines that begin so */
	enum op op;
	int code, or_code;
} cases[] = {
	{ "none", false, "", NOTHING, UP, UP },
	/* the callee sees an offer that nobody of its acquaintance signed: a stranger, 480 */
	{ "offer-fingerprint-swapped", false, "a=fingerprint:", FLIP, 13, 13 },
	{ "offer-fingerprint-removed", false, "a=fingerprint:", REMOVE, 13, 13 },
	{ "offer-key-swapped", false, "a=tieline-key:", OTHER_KEY, 13, 13 },
	{ "offer-key-removed", false, "a=tieline-key:", REMOVE, 13, 13 },
	{ "offer-signature-swapped", false, "a=tieline-sig:", FLIP, 13, 13 },
	{ "offer-signature-removed", false, "a=tieline-sig:", REMOVE, 13, 13 },
	{ "offer-bind-swapped", false, "a=tieline-bind:", FLIP, 13, 13 },
	{ "offer-bind-removed", false, "a=tieline-bind:", REMOVE, 13, 13 },
	{ "offer-aor-swapped", false, "a=tieline-aor:", OTHER_AOR, 31, 13 },
	{ "offer-aor-removed", false, "a=tieline-aor:", REMOVE, 13, 13 },
	{ "offer-to-swapped", false, "a=tieline-to:", OTHER_AOR, 13, 13 },
	{ "offer-to-removed", false, "a=tieline-to:", REMOVE, 13, 13 },
	{ "offer-date-swapped", false, "a=tieline-date:", LAST_DIGIT, 13, 13 },
	{ "offer-date-removed", false, "a=tieline-date:", REMOVE, 13, 13 },
	{ "offer-setup-swapped", false, "a=ike-setup:", OTHER_SETUP, 13, 13 },
	{ "offer-setup-removed", false, "a=ike-setup:", REMOVE, 34, 34 },
	{ "offer-ufrag-swapped", false, "a=ice-ufrag:", FLIP, 13, 13 },
	{ "offer-ufrag-removed", false, "a=ice-ufrag:", REMOVE, 13, 13 },
	{ "offer-pwd-swapped", false, "a=ice-pwd:", FLIP, 13, 13 },
	{ "offer-candidates-swapped", false, "a=candidate:", OTHER_ADDRESS, UP, 20 },
	{ "offer-candidates-removed", false, "a=candidate:", REMOVE, UP, 20 },
	{ "offer-stripped", false, "a=tieline-", STRIP, 13, 13 },
	{ "offer-of-attacker", false, "", ATTACKER, 13, 13 },
	/* the caller sees it itself */
	{ "answer-fingerprint-swapped", true, "a=fingerprint:", FLIP, 34, 34 },
	{ "answer-fingerprint-removed", true, "a=fingerprint:", REMOVE, 34, 34 },
	{ "answer-key-swapped", true, "a=tieline-key:", OTHER_KEY, 31, 31 },
	{ "answer-key-removed", true, "a=tieline-key:", REMOVE, 34, 34 },
	{ "answer-signature-swapped", true, "a=tieline-sig:", FLIP, 34, 34 },
	{ "answer-signature-removed", true, "a=tieline-sig:", REMOVE, 34, 34 },
	{ "answer-bind-swapped", true, "a=tieline-bind:", FLIP, 34, 34 },
	{ "answer-bind-removed", true, "a=tieline-bind:", REMOVE, 34, 34 },
	{ "answer-aor-swapped", true, "a=tieline-aor:", OTHER_AOR, 31, 31 },
	{ "answer-aor-removed", true, "a=tieline-aor:", REMOVE, 34, 34 },
	{ "answer-to-added", true, "a=tieline-aor:", TO_LINE, 34, 34 },
	{ "answer-date-swapped", true, "a=tieline-date:", LAST_DIGIT, 34, 34 },
	{ "answer-date-removed", true, "a=tieline-date:", REMOVE, 34, 34 },
	{ "answer-setup-swapped", true, "a=ike-setup:", OTHER_SETUP, 34, 34 },
	{ "answer-setup-removed", true, "a=ike-setup:", REMOVE, 34, 34 },
	{ "answer-ufrag-swapped", true, "a=ice-ufrag:", FLIP, 34, 34 },
	{ "answer-ufrag-removed", true, "a=ice-ufrag:", REMOVE, 34, 34 },
	{ "answer-pwd-swapped", true, "a=ice-pwd:", FLIP, 34, 34 },
	{ "answer-candidates-swapped", true, "a=candidate:", OTHER_ADDRESS, UP, 20 },
	{ "answer-candidates-removed", true, "a=candidate:", REMOVE, UP, 20 },
	{ "answer-stripped", true, "a=tieline-", STRIP, 34, 34 },
	{ "answer-of-attacker", true, "", ATTACKER, 31, 31 },
	{ "answer-swallowed", true, "", BLACK_HOLE, 13, 10 },
};

unsigned evil_cases(void)
{
	return sizeof(cases) / sizeof(cases[0]);
}

const char *evil_case_name(unsigned i)
{
	return cases[i].name;
}

bool evil_code_right(unsigned i, int code)
{
	return code == cases[i].code || code == cases[i].or_code;
}

bool evil_may_come_up(unsigned i)
{
	return cases[i].code == UP;
}

bool evil_on_answer(unsigned i)
{
	return cases[i].on_answer;
}

bool evil_wants_attacker(unsigned i)
{
	return cases[i].op == ATTACKER;
}

/* ---- one line ---- */

/* Another digit, letter or hex digit in the middle of the value: the line stays well formed. */
static void flip(char *line, size_t from, size_t len)
{
	char *c = line + from + (len - from) / 2;

	while (*c == ':' || *c == ' ' || *c == '-')
		c++;
	*c = *c == 'A' ? 'B' : 'A';
}

static void other_address(struct wr *w, struct span line)
{
	/* foundation component transport priority ADDRESS PORT ... */
	for (int i = 0; line.len; i++) {
		struct span word = span_word(&line);

		wr_str(w, i ? " " : "");
		if (i == 4)
			wr_str(w, "203.0.113.66");
		else
			wr_span(w, word);
	}
}

static void other_key(struct wr *w, const char *prefix)
{
	wr_str(w, prefix);
	wr_base64(w, identity_spki(pool_identity(ID_MALLORY)));
}

static void change(struct wr *w, unsigned i, struct span line)
{
	const char *prefix = cases[i].line;
	char copy[2048];

	switch (cases[i].op) {
	case FLIP:
	case LAST_DIGIT:
		if (span_copy_str(line, copy, sizeof(copy)) != OK)
			abort();
		if (cases[i].op == FLIP)
			flip(copy, strlen(prefix), line.len);
		else
			copy[line.len - 1] = copy[line.len - 1] == '0' ? '1' : '0';
		wr_str(w, copy);
		break;
	case OTHER_KEY: other_key(w, prefix); break;
	case OTHER_AOR: wr_fmt(w, "%ssip:mallory@" SIM_DOMAIN, prefix); break;
	case OTHER_SETUP:
		wr_fmt(w, "%s%s", prefix, span_find_span(line, SPAN_LIT("active")) < line.len ? "passive" : "active");
		break;
	case OTHER_ADDRESS: other_address(w, line); break;
	case TO_LINE:
		wr_span(w, line);
		wr_str(w, "\r\na=tieline-to:sip:bob@" SIM_DOMAIN);
		break;
	case NOTHING:
	case REMOVE:
	case STRIP:
	case ATTACKER:
	case BLACK_HOLE: return;
	}
	wr_str(w, "\r\n");
}

/* ---- a body, a message ---- */

static void edit(struct wr *w, struct evil *evil, struct span body)
{
	unsigned i = evil->case_index;

	while (body.len) {
		size_t n = span_find(body, '\n');
		struct span line = span_sub(body, 0, n + 1), text = line;

		body = span_from(body, n + 1);
		while (text.len && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == '\r'))
			text.len--;
		if (cases[i].line[0] && span_starts(text, cases[i].line)) {
			change(w, i, text);
			evil->n_hits++;
		} else {
			wr_span(w, line);
		}
	}
}

static void put_message(struct wr *w, struct span head, struct span body)
{
	while (head.len) {
		size_t n = span_find(head, '\n');
		struct span line = span_sub(head, 0, n + 1);

		head = span_from(head, n + 1);
		if (span_istarts(line, "content-length:"))
			wr_fmt(w, "Content-Length: %zu\r\n", body.len);
		else
			wr_span(w, line);
	}
	wr_span(w, body);
}

static bool is_invite_answer(struct span head)
{
	return span_starts(head, "SIP/2.0 200") && span_find_span(head, SPAN_LIT(" INVITE\r\n")) < head.len;
}

static void record(struct world *w, const struct path *path, struct span message)
{
	struct evil *evil = &w->evil;

	if (evil->recorded)
		return;
	evil->recorded = sim_copy(message);
	evil->recorded_len = message.len;
	evil->recorded_path = *path;
}

static bool attackers(struct world *w, struct span theirs, struct wr *body)
{
	struct evil *evil = &w->evil;

	if (!evil->made) {
		if (!evil->attack || !evil->attack(w, theirs, body))
			return false;
		evil->made = sim_copy(wr_done(body));
		evil->made_len = body->len;
		return true;
	}
	wr_bytes(body, evil->made, evil->made_len);
	return true;
}

bool evil_rewrite(struct world *w, const struct path *path, struct span *bytes)
{
	static uint8_t body_mem[32768], mem[65536];
	struct evil *evil = &w->evil;
	unsigned i = evil->case_index;
	struct wr body = wr_of(body_mem, sizeof(body_mem)), out = wr_of(mem, sizeof(mem));
	size_t at = span_find_span(*bytes, SPAN_LIT("\r\n\r\n"));
	struct span head, old;
	bool offer, answer;

	if (at >= bytes->len || at + 4 == bytes->len)
		return true;
	head = span_sub(*bytes, 0, at + 4);
	old = span_from(*bytes, at + 4);
	offer = span_starts(head, "INVITE ");
	answer = is_invite_answer(head);
	if (offer)
		record(w, path, *bytes);
	if (!(cases[i].on_answer ? answer : offer) || cases[i].op == NOTHING)
		return true;
	if (cases[i].op == BLACK_HOLE) {
		evil->n_hits++;
		return false;
	}
	if (cases[i].op == ATTACKER) {
		if (!attackers(w, old, &body))
			return true;
		evil->n_hits++;
	} else {
		edit(&body, evil, old);
	}
	put_message(&out, head, wr_done(&body));
	if (body.bad || out.bad)
		abort();
	world_trace(w, "evil proxy: %s", cases[i].name);
	*bytes = wr_done(&out);
	return true;
}
