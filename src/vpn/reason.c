/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "vpn/reason.h"

#include <stddef.h>

static const struct {
	enum reason reason;
	const char *text;
} texts[] = {
	{ REASON_OK, "the call has ended" },
	{ REASON_INTERNAL, "an internal error; the daemon's log says more" },
	{ REASON_USAGE, "the command was not understood" },
	{ REASON_INPUT, "the input was refused" },
	{ REASON_NO_DAEMON, "no tielined answers; is it running?" },
	{ REASON_EXCHANGE, "the exchange cannot be reached; check `server` and the network" },
	{ REASON_PASSWORD, "the exchange refuses the password; check `user` and `password`" },
	{ REASON_UNKNOWN_CALLEE, "the exchange knows no such address; check its spelling" },
	{ REASON_NOT_AVAILABLE,
	  "not available: the device is not registered, does not know this caller, or nobody answered" },
	{ REASON_BUSY, "busy: the other side has as many calls as it allows" },
	{ REASON_DECLINED, "the other side declined the call" },
	{ REASON_NOT_ALLOWED, "not allowed: the other side grants none of what was asked for" },
	{ REASON_REVOKED, "the grant was revoked or its time is over" },
	{ REASON_NO_PATH,
	  "no path between the two networks was found; both NATs may be symmetric, then a relay is needed" },
	{ REASON_FINGERPRINT, "the certificate shown is not the announced one; somebody may be in between" },
	{ REASON_PIN,
	  "the other side's key is not the pinned one; somebody may be in between, or the device was replaced" },
	{ REASON_LEVEL, "no key of the other side is known well enough; pin it with `tieline trust add`" },
	{ REASON_IKE, "the key exchange failed" },
	{ REASON_SECURITY_LINES, "somebody on the signalling path removed or changed security lines" },
	{ REASON_PAIRING, "the pairing failed or its code is burnt" },
	{ REASON_SAS, "the short authentication string was not confirmed" },
	{ REASON_VANISHED, "the other side has vanished" },
};

const char *reason_text(enum reason r)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].reason == r)
			return texts[i].text;
	return "the call has ended for an unknown reason";
}
