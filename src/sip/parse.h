/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/parse.h - inside sip/ only: what the files of the codec share. */
#pragma once
#include "sip/msg.h"

/* Outer blanks and folds away. */
struct span sip_trim(struct span s);
enum sip_method sip_method_of(struct span text);
enum sip_h sip_h_of(struct span name);
/* Takes one Via element off *list. */
MUST_CHECK enum err sip_via_parse(struct span *list, struct sip_via *ret);
/* A token of RFC 3261, 25.1. */
bool sip_token_ok(struct span s);
/* The next line up to CRLF or LF at *at; folded lines are not joined. False: no line end in sight. */
bool sip_line(struct span text, size_t *at, struct span *ret);
/* Is the line at `at` a continuation (7.3.1)? */
bool sip_folded(struct span text, size_t at);
