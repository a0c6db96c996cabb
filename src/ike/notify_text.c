/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What an error notify means to somebody who has not read the RFCs. */
#include "ike/sa_impl.h"

const char *ike_notify_text(uint16_t notify)
{
	static const struct {
		uint16_t notify;
		const char *text;
	} rows[] = {
		/* RFC 7296, 3.10.1; 40 and 41 RFC 4555, 4.2 */
		{ IKE_N_UNSUPPORTED_CRITICAL_PAYLOAD,
		  "the other side does not know a part of the message that we insist on" },
		{ 4, "the other side does not know this key exchange (any more)" },
		{ 5, "the other side does not speak this version of IKE" },
		{ IKE_N_INVALID_SYNTAX, "the other side could not read our message" },
		{ 9, "the other side has seen a message number out of order" },
		{ 11, "the other side received ESP for a connection that it does not know" },
		{ IKE_N_NO_PROPOSAL_CHOSEN, "the other side has no algorithms in common with us" },
		{ IKE_N_INVALID_KE_PAYLOAD, "the other side wants another key exchange group" },
		{ IKE_N_AUTHENTICATION_FAILED,
		  "the other side does not accept our proof of identity: it expects another certificate, key, shared "
		  "key or name" },
		{ 34, "the other side wants one service in each connection" },
		{ IKE_N_NO_ADDITIONAL_SAS, "the other side accepts no further connections" },
		{ IKE_N_INTERNAL_ADDRESS_FAILURE, "the other side has no address left to assign" },
		{ IKE_N_FAILED_CP_REQUIRED, "the other side assigns addresses of its network, and none was asked for "
					    "(accept-prefix of its [peer] section)" },
		{ IKE_N_TS_UNACCEPTABLE, "the other side's policy does not allow what was asked for" },
		{ 39, "the other side received a packet that is outside of what was agreed" },
		{ 40, "the other side does not accept these addresses" },
		{ 41, "the other side sees a NAT where it allows none" },
		{ IKE_N_TEMPORARY_FAILURE, "the other side is busy with another exchange" },
		{ IKE_N_CHILD_SA_NOT_FOUND, "the other side does not know that connection (any more)" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].notify == notify)
			return rows[i].text;
	return "the other side refused, with a reason that is not known here";
}
