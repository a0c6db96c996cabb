/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/dns.h"

#include <event2/dns.h>
#include <event2/util.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "net/udp.h"

#define ADDRS_MAX 8

struct query {
	struct dns *dns;
	struct query *next;
	dns_answer *answer;
	void *arg;
	uint16_t port;
	bool cancelled;
	struct addr literal;
};

struct dns {
	struct loop *loop;
	struct evdns_base *base;
	struct query *queries;
};

enum err dns_new(struct loop *l, struct dns **ret)
{
	struct dns *d = calloc(1, sizeof(*d));

	if (!d)
		return ERR_NOMEM;
	d->loop = l;
	/* Without a resolv.conf there are still addresses as text. */
	d->base = evdns_base_new(loop_base(l), EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	*ret = d;
	return OK;
}

void dns_free(struct dns *d)
{
	if (!d)
		return;
	for (struct query *q = d->queries; q; q = q->next)
		q->cancelled = true;
	if (d->base)
		evdns_base_free(d->base, 1); /* every open query answers now, and is freed */
	while (d->queries) {
		struct query *q = d->queries;

		d->queries = q->next;
		free(q);
	}
	free(d);
}

static void done(struct query *q)
{
	for (struct query **at = &q->dns->queries; *at; at = &(*at)->next)
		if (*at == q) {
			*at = q->next;
			break;
		}
	free(q);
}

static void resolved(int result, struct evutil_addrinfo *ai, void *arg)
{
	struct query *q = arg;
	struct addr addrs[ADDRS_MAX];
	unsigned n = 0;

	for (struct evutil_addrinfo *a = ai; a && n < ADDRS_MAX; a = a->ai_next) {
		struct sockaddr_storage ss;

		memset(&ss, 0, sizeof(ss));
		if (a->ai_addrlen > sizeof(ss))
			continue;
		memcpy(&ss, a->ai_addr, a->ai_addrlen);
		addrs[n] = addr_from_sockaddr(&ss);
		addrs[n].port = q->port;
		n += addrs[n].family != ADDR_NONE;
	}
	if (ai)
		evutil_freeaddrinfo(ai);
	if (!q->cancelled)
		q->answer(q->arg, addrs, n, n ? "" : evutil_gai_strerror(result));
	done(q);
}

static void literal(void *arg)
{
	struct query *q = arg;

	if (!q->cancelled)
		q->answer(q->arg, &q->literal, 1, "");
	done(q);
}

enum err dns_resolve(struct dns *d, const char *host, uint16_t port, dns_answer *answer, void *arg)
{
	struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC,
					 .ai_socktype = SOCK_DGRAM,
					 .ai_flags = EVUTIL_AI_ADDRCONFIG };
	struct query *q = calloc(1, sizeof(*q));

	if (!q)
		return ERR_NOMEM;
	*q = (struct query){ .dns = d, .answer = answer, .arg = arg, .port = port };
	if (addr_parse_ip(span_str(host), &q->literal) == OK) {
		q->literal.port = port;
		if (loop_defer(d->loop, literal, q) != OK) {
			free(q);
			return ERR_NOMEM;
		}
		q->next = d->queries;
		d->queries = q;
		return OK;
	}
	if (!d->base) {
		free(q);
		return ERR_UNSUPPORTED;
	}
	q->next = d->queries;
	d->queries = q;
	/* may answer at once (a name of /etc/hosts): then it is through resolved() and q is gone */
	(void)evdns_getaddrinfo(d->base, host, NULL, &hints, resolved, q);
	return OK;
}
