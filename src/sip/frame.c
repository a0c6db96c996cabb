/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/frame.c - where a message ends in a byte stream (RFC 3261, 18.3). */
#include "sip/parse.h"

/* RFC 5626, 3.5.1: the ping is two empty lines, the pong one. */
static enum sip_frame keepalive(struct span stream, size_t *ret_len, bool *ret_ping)
{
	static const uint8_t ping[4] = { '\r', '\n', '\r', '\n' };
	size_t n = 0;

	while (n < stream.len && n < sizeof(ping) && stream.p[n] == ping[n])
		n++;
	if (n < 2)
		return n == stream.len ? SIP_FRAME_MORE : SIP_FRAME_BAD;
	*ret_len = n & ~(size_t)1;
	*ret_ping = n == sizeof(ping);
	return SIP_FRAME_KEEPALIVE;
}

/* "SIP/2.0 ..." or "METHOD uri SIP/2.0": anything else is not SIP, and its end would be waited for in vain. */
static bool line_begins(struct span line)
{
	struct span rest, method = span_cut(line, ' ', &rest);

	return span_istarts(line, "SIP/") ||
	       (sip_token_ok(method) && span_find_span(rest, SPAN_LIT("SIP/")) < rest.len);
}

enum sip_frame sip_frame(struct span stream, size_t *ret_len, bool *ret_ping)
{
	struct span line;
	size_t at = 0;
	uint32_t length = 0;
	bool has_length = false, first = true;

	*ret_ping = false;
	if (!stream.len)
		return SIP_FRAME_MORE;
	if (stream.p[0] == '\r')
		return keepalive(stream, ret_len, ret_ping);
	for (;;) {
		struct span name, value;

		if (!sip_line(stream, &at, &line))
			return stream.len > SIP_MSG_MAX ? SIP_FRAME_BAD : SIP_FRAME_MORE;
		if (!line.len && !first)
			break;
		if (first && !line_begins(line))
			return SIP_FRAME_BAD;
		while (line.len && sip_folded(stream, at)) {
			struct span more;

			if (!sip_line(stream, &at, &more))
				return stream.len > SIP_MSG_MAX ? SIP_FRAME_BAD : SIP_FRAME_MORE;
			line = span_of(line.p, (size_t)(more.p - line.p) + more.len);
		}
		if (at == stream.len) /* whether the line goes on is not known yet */
			return stream.len > SIP_MSG_MAX ? SIP_FRAME_BAD : SIP_FRAME_MORE;
		name = span_cut(line, ':', &value);
		if (!first && sip_h_of(sip_trim(name)) == H_CONTENT_LENGTH) {
			if (has_length || span_u32(sip_trim(value), SIP_MSG_MAX, &length) != OK)
				return SIP_FRAME_BAD; /* two lengths: where the message ends is a matter of taste */
			has_length = true;
		}
		first = false;
	}
	if (!has_length || at + length > SIP_MSG_MAX)
		return SIP_FRAME_BAD;
	if (stream.len < at + length)
		return SIP_FRAME_MORE;
	*ret_len = at + length;
	return SIP_FRAME_MESSAGE;
}
