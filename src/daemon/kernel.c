/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/kernel.c - ESP in the kernel, by way of the monitor. */
#include <string.h>

#include "crypto/secret.h"
#include "daemon/engine.h"
#include "daemon/monitor.h"
#include "net/xfrm.h"

static uint32_t op_of(enum esp_kernel_act act)
{
	switch (act) {
	case ESP_KERNEL_ADD: return MONITOR_ESP_ADD;
	case ESP_KERNEL_REMOVE: return MONITOR_ESP_REMOVE;
	case ESP_KERNEL_MOVE: return MONITOR_ESP_MOVE;
	case ESP_KERNEL_COUNT: return MONITOR_ESP_COUNT;
	default: return MONITOR_ESP_POLICY;
	}
}

static enum err aead_of(enum cipher_alg alg, uint8_t *ret)
{
	switch (alg) {
	case CIPHER_AES128_GCM: *ret = XFRM_AES128_GCM; return OK;
	case CIPHER_AES256_GCM: *ret = XFRM_AES256_GCM; return OK;
	case CIPHER_CHACHA20_POLY1305: *ret = XFRM_CHACHA20_POLY1305; return OK;
	default: return ERR_UNSUPPORTED;
	}
}

static enum err fill(const struct esp_kernel_request *rq, struct monitor_esp *m)
{
	*m = (struct monitor_esp){ .slot = rq->slot,
				   .action = (uint8_t)rq->act,
				   .inbound = rq->inbound,
				   .esn = rq->esn,
				   .copy_dscp = rq->copy_dscp,
				   .mtu = (uint16_t)rq->mtu,
				   .spi = rq->spi,
				   .own = rq->own,
				   .peer = rq->peer,
				   .new_own = rq->new_own,
				   .new_peer = rq->new_peer,
				   .server = rq->server,
				   .client = rq->client,
				   .hard_packets = rq->hard_packets,
				   .hard_bytes = rq->hard_bytes };
	if (rq->act != ESP_KERNEL_ADD)
		return OK;
	memcpy(m->key, rq->key, sizeof(m->key)); /* the longest of these algorithms' */
	return aead_of(rq->alg, &m->aead);
}

void kernel_carry_out(struct engine *e, struct esp_kernel_request *rq)
{
	struct monitor_request ask = { .op = op_of(rq->act) };
	struct monitor_reply reply = { .packets = 0 };
	struct esp_kernel_count count;
	int fd;
	enum err r = fill(rq, &ask.esp);

	if (r == OK)
		r = monitor_ask(e->monitor_fd, &ask, &reply, &fd);
	if (r != OK && rq->act != ESP_KERNEL_COUNT)
		log_warn(&e->log, "ESP in the kernel: request %d was refused: %s", (int)rq->act, err_name(r));
	count = (struct esp_kernel_count){ .packets = reply.packets,
					   .bytes = reply.bytes,
					   .replayed = reply.replayed,
					   .not_authentic = reply.not_authentic };
	secret_wipe(&ask, sizeof(ask));
	secret_wipe(rq->key, sizeof(rq->key));
	vpn_kernel_done(e->vpn, loop_now_us(e->loop), rq, r, &count);
}
