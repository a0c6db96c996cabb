/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/dialog.h - the state by which requests are built (RFC 3261, 12): identifiers, route set, targets, numbers. Plain memory
 * with owned strings; all zero is valid and empty. Also used where there is no dialog (REGISTER, a first INVITE): then the
 * remote tag is empty, the target is the request URI. */
#pragma once
#include "base/rng.h"
#include "sip/msg.h"

#define SIP_ROUTES_MAX 16
#define SIP_TAG_LEN 16
#define SIP_CALL_ID_LEN 24
/* Our choice: a name, URI or tag that we must keep. */
#define SIP_DIALOG_TEXT_MAX 2048

struct sip_dialog {
	char *call_id, *local_tag, *remote_tag;
	char *local, *remote; /* From and To of ours, as "<uri>" with what display name they had, without tag */
	char *target; /* remote target: a URI */
	char *routes[SIP_ROUTES_MAX]; /* in the order of our requests */
	unsigned n_routes;
	uint32_t local_cseq, remote_cseq;
	bool remote_cseq_known;
};

/* On error the dialog is left empty. URIs without angle brackets. */
MUST_CHECK enum err sip_dialog_out(struct sip_dialog *d, const struct rng *rng, const char *local_uri,
				   const char *remote_uri, const char *target);
/* 12.1.2: the dialog that this answer to a request of `from` makes. */
MUST_CHECK enum err sip_dialog_uac(struct sip_dialog *d, const struct sip_dialog *from, const struct sip_msg *answer);
/* 12.1.1: the dialog that an answer of ours to rq makes. ERR_MALFORMED: no single SIP Contact. */
MUST_CHECK enum err sip_dialog_uas(struct sip_dialog *d, const struct rng *rng, const struct sip_msg *rq);
void sip_dialog_done(struct sip_dialog *d);

/* Is this request one of the other side within d? */
bool sip_dialog_has(const struct sip_dialog *d, const struct sip_msg *rq);
/* Is this answer to a request of ours in d, to-tag apart? */
bool sip_dialog_asked(const struct sip_dialog *d, const struct sip_msg *answer);
/* 12.2.2: true and noted when the number is higher than all before. Not for ACK and CANCEL. */
bool sip_dialog_seq(struct sip_dialog *d, const struct sip_msg *rq);
/* A target refresh request or its 2xx (12.2): takes the Contact, if there is a usable one. */
void sip_dialog_refresh(struct sip_dialog *d, const struct sip_msg *m);

/* Start line, Via, Max-Forwards, Route, From, To, Call-ID, CSeq of a request (12.2.1.1). sip_write_end() finishes it. */
void sip_dialog_request(const struct sip_dialog *d, struct wr *w, enum sip_method method, uint32_t cseq,
			enum transport transport, const struct addr *sent_by, const char *branch);
/* The Request-URI that this writes. */
struct span sip_dialog_request_uri(const struct sip_dialog *d);
