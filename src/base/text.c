/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/text.h"

#include <string.h>

uint8_t ascii_lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

bool ascii_is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

bool ascii_is_alpha(uint8_t c)
{
	c = ascii_lower(c);
	return c >= 'a' && c <= 'z';
}

char *hex_write(struct span s, char *dst, size_t cap)
{
	static const char digits[] = "0123456789abcdef";
	size_t at = 0;

	for (size_t i = 0; i < s.len && cap - at > 2; i++) {
		dst[at++] = digits[s.p[i] >> 4];
		dst[at++] = digits[s.p[i] & 15];
	}
	if (cap)
		dst[at] = 0;
	return dst;
}

char *hex_colon_write(struct span s, char *dst, size_t cap)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t at = 0;

	for (size_t i = 0; i < s.len && cap - at > 3; i++) {
		if (i)
			dst[at++] = ':';
		dst[at++] = digits[s.p[i] >> 4];
		dst[at++] = digits[s.p[i] & 15];
	}
	/* Without the colon in front of it the first byte needs less room than asked for. */
	if (s.len && !at && cap == 3) {
		dst[at++] = digits[s.p[0] >> 4];
		dst[at++] = digits[s.p[0] & 15];
	}
	if (cap)
		dst[at] = 0;
	return dst;
}

static int hex_digit(uint8_t c)
{
	if (ascii_is_digit(c))
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum err hex_parse(struct span text, bool colons, uint8_t *dst, size_t cap, size_t *ret_len)
{
	size_t step = colons && text.len > 2 && text.p[2] == ':' ? 3 : 2;
	size_t n = (text.len + step - 2) / step;

	if (text.len + step - 2 != n * step)
		return ERR_MALFORMED;
	if (n > cap)
		return ERR_LIMIT;
	for (size_t i = 0; i < n; i++) {
		int hi = hex_digit(text.p[i * step]), lo = hex_digit(text.p[i * step + 1]);

		if (hi < 0 || lo < 0 || (step == 3 && i + 1 < n && text.p[i * step + 2] != ':'))
			return ERR_MALFORMED;
		dst[i] = (uint8_t)(hi << 4 | lo);
	}
	*ret_len = n;
	return OK;
}

static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_size(size_t len)
{
	return (len + 2) / 3 * 4;
}

void wr_base64(struct wr *w, struct span s)
{
	for (size_t i = 0; i < s.len; i += 3) {
		size_t n = s.len - i < 3 ? s.len - i : 3;
		uint32_t v =
			(uint32_t)s.p[i] << 16 | (n > 1 ? (uint32_t)s.p[i + 1] << 8 : 0) | (n > 2 ? s.p[i + 2] : 0);

		for (size_t k = 0; k < 4; k++)
			wr_u8(w, k <= n ? (uint8_t)base64_alphabet[v >> (18 - 6 * k) & 63] : '=');
	}
}

static int base64_digit(uint8_t c)
{
	const char *hit = c ? strchr(base64_alphabet, c) : NULL;

	return hit ? (int)(hit - base64_alphabet) : -1;
}

enum err base64_parse(struct span text, uint8_t *dst, size_t cap, size_t *ret_len)
{
	size_t pad = 0, len;

	if (text.len % 4)
		return ERR_MALFORMED;
	while (pad < 2 && pad < text.len && text.p[text.len - 1 - pad] == '=')
		pad++;
	len = text.len / 4 * 3 - pad;
	if (len > cap)
		return ERR_LIMIT;
	for (size_t i = 0, at = 0; i < text.len; i += 4) {
		uint32_t v = 0;

		for (size_t k = 0; k < 4; k++) {
			bool is_pad = i + k >= text.len - pad;
			int digit = is_pad ? 0 : base64_digit(text.p[i + k]);

			if (digit < 0)
				return ERR_MALFORMED;
			v = v << 6 | (uint32_t)digit;
		}
		for (size_t k = 0; k < 3; k++) {
			uint8_t byte = (uint8_t)(v >> (16 - 8 * k));

			if (at < len)
				dst[at++] = byte;
			else if (byte)
				return ERR_MALFORMED; /* stray bits (RFC 4648, 3.5) */
		}
	}
	*ret_len = len;
	return OK;
}

static bool is_plain(uint8_t c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

char *text_escape(struct span s, char *dst, size_t cap)
{
	static const char digits[] = "0123456789abcdef";
	size_t at = 0, whole = 0, room;

	for (size_t i = 0; i < s.len; i++)
		whole += is_plain(s.p[i]) ? 1 : 4;
	if (whole >= cap && cap < 4) {
		if (cap)
			dst[0] = 0;
		return dst;
	}
	room = whole < cap ? whole : cap - 4; /* what does not fit ends in "..." */
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.p[i];

		if (at + (is_plain(c) ? 1 : 4) > room)
			break;
		if (is_plain(c)) {
			dst[at++] = (char)c;
		} else {
			dst[at++] = '\\';
			dst[at++] = 'x';
			dst[at++] = digits[c >> 4];
			dst[at++] = digits[c & 15];
		}
	}
	if (whole >= cap) {
		memcpy(dst + at, "...", 3);
		at += 3;
	}
	dst[at] = 0;
	return dst;
}
