/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/plane.c - do a call's packets pass here or in the kernel? All of them in one: what a peer sends in one train must lead to one
 * socket. The inbound SPIs say it, so that a call changes over by new keys. In the kernel are calls of networks alone; a call's first keys
 * may be made before it is known what is granted. */
#include "vpn/impl.h"

#define CHANGE_US                                                                                                      \
	SECONDS(5) /* how long what was granted waits for new keys before it is used with those that there are */

static bool suits(const struct vpn *v, const struct call *c)
{
	if (!esp_set_has_kernel(v->esp) || c->no_kernel || c->plain_esp || c->ask || !c->n_grants)
		return false;
	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].g.protocol)
			return false;
	return true;
}

static bool begun(const struct call *c)
{
	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].spi_in)
			return true;
	return false;
}

void plane_choose(const struct vpn *v, struct call *c)
{
	if (!begun(c))
		c->in_kernel = suits(v, c);
}

static bool rekey(const struct vpn *v, struct call *c, uint64_t now_us)
{
	bool any = false;

	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].spi_in && esp_set_in_kernel(v->esp, c->grants[i].spi_in) != c->in_kernel)
			any |= ike_sa_child_rekey(c->sa, now_us, c->grants[i].spi_in) == OK;
	return any;
}

/* Before anybody knows of it, and so before there are flows. */
bool plane_change(struct vpn *v, struct call *c, uint64_t now_us, uint32_t spi_in)
{
	if (c->in_kernel || !suits(v, c))
		return false;
	c->in_kernel = true;
	if (!rekey(v, c, now_us)) {
		c->in_kernel = false;
		return false;
	}
	for (unsigned i = 0; i < c->n_grants; i++)
		c->grants[i].waits |= c->grants[i].spi_in == spi_in;
	c->plane_due_us = now_us + CHANGE_US;
	return true;
}

static void to_user(const struct vpn *v, struct call *c, uint64_t now_us)
{
	c->no_kernel = true;
	c->in_kernel = false;
	(void)rekey(v, c, now_us);
}

void plane_leave(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (!c->no_kernel)
		log_warn(&c->log, "call %u: the kernel does not take it; its packets pass here", c->id);
	to_user(v, c, now_us);
	c->plane_due_us = now_us + CHANGE_US; /* until then nothing passes */
}

/* A service beside a network, say. */
void plane_recheck(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (!c->in_kernel || !call_live(c) || suits(v, c))
		return;
	log_info(&c->log, "call %u: what is granted besides does not pass in the kernel", c->id);
	to_user(v, c, now_us);
}

void plane_failures(struct vpn *v, uint64_t now_us)
{
	uint32_t id;

	while (esp_set_poll_failed(v->esp, &id)) {
		struct call *c = vpn_call_find(v, id);

		if (c && c->sa)
			plane_leave(v, c, now_us);
	}
}

void plane_tick(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (now_us < c->plane_due_us)
		return;
	c->plane_due_us = TIME_NEVER;
	if (c->no_kernel && plane_is_kernel(v, c)) {
		call_end(v, c, now_us, REASON_INTERNAL,
			 "this machine's kernel does not carry the tunnel, and no other keys could be agreed on");
		return;
	}
	log_info(&c->log, "call %u: no new keys for the other data plane yet", c->id);
	child_wait_over(v, c, now_us);
}

bool plane_is_kernel(const struct vpn *v, const struct call *c)
{
	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].spi_in && esp_set_in_kernel(v->esp, c->grants[i].spi_in))
			return true;
	return false;
}

/* ---- the host's part ---- */

enum err vpn_kernel_begin(struct vpn *v)
{
	return esp_set_kernel_begin(v->esp);
}

bool vpn_poll_kernel(struct vpn *v, struct esp_kernel_request *ret)
{
	return esp_set_poll_kernel(v->esp, ret);
}

void vpn_kernel_done(struct vpn *v, uint64_t now_us, const struct esp_kernel_request *rq, enum err e,
		     const struct esp_kernel_count *counts)
{
	esp_set_kernel_done(v->esp, now_us, rq, e, counts);
}
