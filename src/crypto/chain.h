/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/chain.h - certificates that a private CA has signed (RFC 5280, 6; RFC 4945, 5.1), by OpenSSL. One certificate is the
 * anchor, whether it is self-signed or not; there are no others, no revocation lists and no network. */
#pragma once
#include <stdint.h>
#include "base/buf.h"

#define CHAIN_MAX 4 /* certificates that a peer shows, its own among them */

struct cert_anchor;
/* From the first certificate of a PEM text. ERR_MALFORMED: none, or one that cannot sign certificates. */
MUST_CHECK enum err cert_anchor_new(struct span pem, struct cert_anchor **ret);
struct cert_anchor *cert_anchor_ref(struct cert_anchor *a); /* one more owner; NULL stays NULL */
void cert_anchor_free(struct cert_anchor *a); /* one owner less */
struct span cert_anchor_spki(const struct cert_anchor *a); /* DER, borrowed */

/* Is certs[0] (DER) valid at now_s (unix time), signed by the anchor through the others, made for IKE signatures, and is mail
 * (no "sip:") one of its rfc822Names? ERR_AUTH with *ret_why, a plain sentence: no. Other errors: it could not be found out. */
MUST_CHECK enum err cert_chain_verify(const struct cert_anchor *a, const struct span *certs, unsigned n, int64_t now_s,
				      const char *mail, const char **ret_why);
