/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/text.h - hexadecimal, base64 and printing of foreign text.
 *
 * Decoders are strict (RFC 4648 section 3): no blanks, no missing padding, no stray
 * bits. ret_len is written on success only. */
#pragma once
#include "base/buf.h"

/* Lower case, NUL-terminated; cap of at least 2 * len + 1, else the result is cut. Returns dst. */
char *hex_write(struct span s, char *dst, size_t cap);
/* Upper case with colons, "4A:AD:..." as in a=fingerprint (RFC 8122); cap of 3 * len. */
char *hex_colon_write(struct span s, char *dst, size_t cap);
/* Either case; colons between bytes only when `colons` is set, where they are optional
 * but then between all bytes. */
MUST_CHECK enum err hex_parse(struct span text, bool colons, uint8_t *dst, size_t cap, size_t *ret_len);

/* Size of the base64 text of len bytes, without NUL. */
size_t base64_size(size_t len);
void wr_base64(struct wr *w, struct span s);
MUST_CHECK enum err base64_parse(struct span text, uint8_t *dst, size_t cap, size_t *ret_len);

/* Foreign text for a log line or a terminal: printable ASCII as it is, quotes,
 * backslashes and everything else as \xNN; cut with "..." when it does not fit. Returns dst. */
char *text_escape(struct span s, char *dst, size_t cap);

uint8_t ascii_lower(uint8_t c);
bool ascii_is_digit(uint8_t c);
bool ascii_is_alpha(uint8_t c);
