/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/reason.h - the ends of a call: exit codes (man/tieline.1). The sentence goes with it. */
#pragma once

enum reason {
	REASON_OK = 0,
	REASON_INTERNAL = 1,
	REASON_USAGE = 2,
	REASON_INPUT = 3,
	REASON_NO_DAEMON = 4,
	REASON_EXCHANGE = 10,
	REASON_PASSWORD = 11,
	REASON_UNKNOWN_CALLEE = 12,
	REASON_NOT_AVAILABLE = 13,
	REASON_BUSY = 14,
	REASON_DECLINED = 15,
	REASON_NOT_ALLOWED = 16,
	REASON_REVOKED = 17,
	REASON_NO_PATH = 20,
	REASON_FINGERPRINT = 30,
	REASON_PIN = 31,
	REASON_LEVEL = 32,
	REASON_IKE = 33,
	REASON_SECURITY_LINES = 34,
	REASON_PAIRING = 35,
	REASON_SAS = 36,
	REASON_VANISHED = 40
};
/* A default sentence; never NULL. */
const char *reason_text(enum reason r);
