/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/pmtu.h"

#include <string.h>

/* Ethernet; what tunnels and PPP leave of it; what an inner packet of 1280 bytes takes over IPv6, and over IPv4. */
static const unsigned ladder[] = { PMTU_MAX, 1420, 1380, 1344 };

unsigned pmtu_size(const struct pmtu *m)
{
	return m->on ? m->size : ESP_MTU_MIN;
}

static void ask(struct pmtu *m, uint64_t now_us, unsigned size)
{
	for (unsigned i = 0; i < PMTU_OPEN_MAX; i++)
		if (!m->open[i].size) {
			m->open[i].size = size;
			m->open[i].n_sent = 0;
			m->open[i].due_us = now_us;
			return;
		}
}

static bool asking(const struct pmtu *m, unsigned *ret_confirm)
{
	bool any = false;

	for (unsigned i = 0; i < PMTU_OPEN_MAX; i++) {
		any |= m->open[i].size > m->size;
		if (ret_confirm && m->open[i].size == m->size)
			*ret_confirm = i;
	}
	return any;
}

static void ask_ladder(struct pmtu *m, uint64_t now_us)
{
	m->raise_us = TIME_NEVER;
	for (unsigned i = 0; i < sizeof(ladder) / sizeof(ladder[0]); i++)
		if (ladder[i] > m->size && ladder[i] < m->fails)
			ask(m, now_us, ladder[i]);
}

/* What to ask when all is answered or has failed: half of what is left; in the end nothing, for a while. */
static void go_on(struct pmtu *m, uint64_t now_us)
{
	if (asking(m, NULL) || m->raise_us != TIME_NEVER || m->size >= PMTU_MAX)
		return;
	if (m->fails - m->size > PMTU_GRAIN)
		ask(m, now_us, (m->size + m->fails) / 2 & ~3u);
	else
		m->raise_us = now_us + PMTU_RAISE_US;
}

void pmtu_begin(struct pmtu *m, uint64_t now_us)
{
	memset(m, 0, sizeof(*m));
	m->on = true;
	m->size = ESP_MTU_MIN;
	m->fails = PMTU_MAX + 4;
	m->confirm_us = TIME_NEVER;
	ask_ladder(m, now_us);
}

void pmtu_end(struct pmtu *m)
{
	memset(m, 0, sizeof(*m));
}

bool pmtu_answered(struct pmtu *m, uint64_t now_us, unsigned size)
{
	bool more = size > m->size;

	if (!m->on || size < m->size || size > PMTU_MAX)
		return false;
	m->size = size;
	m->proved_us = now_us;
	m->confirm_us = now_us + PMTU_CONFIRM_US;
	if (size >= m->fails) /* an answer that was late: the path carries it after all */
		m->fails = PMTU_MAX + 4;
	for (unsigned i = 0; i < PMTU_OPEN_MAX; i++)
		if (m->open[i].size <= size)
			m->open[i].size = 0;
	if (more)
		m->raise_us = TIME_NEVER;
	go_on(m, now_us);
	return more;
}

/* RFC 8899, 4.3. */
static void black_hole(struct pmtu *m, uint64_t now_us)
{
	unsigned size = m->size;

	pmtu_begin(m, now_us);
	m->fails = size;
	memset(m->open, 0, sizeof(m->open));
	ask_ladder(m, now_us);
}

bool pmtu_tick(struct pmtu *m, uint64_t now_us, uint64_t last_out_us)
{
	unsigned confirm = PMTU_OPEN_MAX;
	bool hole = false;

	if (!m->on)
		return false;
	for (unsigned i = 0; i < PMTU_OPEN_MAX; i++) {
		unsigned size = m->open[i].size;

		if (!size || m->open[i].n_sent < PMTU_PROBES || now_us < m->open[i].due_us)
			continue;
		m->open[i].size = 0;
		hole |= size == m->size;
		if (size > m->size && size < m->fails)
			m->fails = size;
	}
	if (hole) {
		black_hole(m, now_us);
	} else if (now_us >= m->confirm_us) {
		(void)asking(m, &confirm);
		m->confirm_us = now_us + PMTU_CONFIRM_US;
		if (confirm == PMTU_OPEN_MAX && last_out_us > m->proved_us)
			ask(m, now_us, m->size);
	}
	if (now_us >= m->raise_us) {
		m->fails = PMTU_MAX + 4;
		ask_ladder(m, now_us);
	}
	go_on(m, now_us);
	return hole;
}

bool pmtu_poll_probe(struct pmtu *m, uint64_t now_us, unsigned *ret_size)
{
	for (unsigned i = 0; m->on && i < PMTU_OPEN_MAX; i++) {
		if (!m->open[i].size || m->open[i].n_sent == PMTU_PROBES || now_us < m->open[i].due_us)
			continue;
		m->open[i].n_sent++;
		m->open[i].due_us = now_us + PMTU_PROBE_US;
		*ret_size = m->open[i].size;
		return true;
	}
	return false;
}

uint64_t pmtu_deadline_us(const struct pmtu *m)
{
	uint64_t due = TIME_NEVER;

	if (!m->on)
		return due;
	due = m->confirm_us < m->raise_us ? m->confirm_us : m->raise_us;
	for (unsigned i = 0; i < PMTU_OPEN_MAX; i++)
		if (m->open[i].size && m->open[i].due_us < due)
			due = m->open[i].due_us;
	return due;
}
