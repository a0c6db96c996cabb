/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/log.h - tagged, rate-limited log lines.
 *
 * A line is: time, level, area (the folder), tag (the call or the address), text. The
 * sink adds the time, so that modules read no clock. error: someone must act. warn:
 * refused or degraded. info: a state change. debug: per message. Nothing per packet.
 * Never a key, password, nonce, or SDP with credentials. Peer-controlled text goes
 * through text_escape(). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Where lines go. One per process (or per simulated daemon); outlives its users. */
struct log_sink {
	enum log_level level;
	void (*write)(void *arg, enum log_level level, const char *area, const char *tag, const char *text);
	void *arg;
};

/* Carried by every object that logs; plain data, copied freely. A NULL sink is silent. */
struct log {
	const struct log_sink *sink;
	const char *area; /* static string: "sip", "ice", "ike", ... */
	char tag[96]; /* "sip:bob@example.com#7", "192.0.2.66:500" or "" */
};

struct log log_of(const struct log_sink *sink, const char *area, const char *tag);
void log_error(const struct log *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_warn(const struct log *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_info(const struct log *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_debug(const struct log *l, const char *fmt, ...) PRINTF_LIKE(2, 3);

const char *log_level_name(enum log_level level); /* "error", ... */
bool log_level_parse(const char *name, enum log_level *ret);

/* For lines that a stranger's packet can cause: at most `burst` lines a window of 10 s;
 * the first line of the next window tells how many were left out. All zero is valid. */
struct log_limit {
	uint64_t window_start_us;
	uint32_t n_in_window, n_suppressed;
};
#define LOG_LIMIT_BURST 5
#define LOG_LIMIT_WINDOW_US 10000000u
/* True: log now, and *ret_suppressed lines had been left out before. */
bool log_limit_pass(struct log_limit *lim, uint64_t now_us, uint32_t *ret_suppressed);
