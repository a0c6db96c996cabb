/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <stdlib.h>

#include "crypto/secret.h"
#include "esp/inner.h"
#include "esp/packet.h"
#include "inspect/inspect_impl.h"

static json_t *inner(uint8_t next, struct span packet)
{
	json_t *o = json_pack("{s:i, s:I}", "next_header", (int)next, "length", (json_int_t)packet.len);
	struct esp_inner i;

	if ((next == ESP_NEXT_IP4 || next == ESP_NEXT_IP6) && esp_inner_parse(packet, &i) == OK) {
		size_t len = i.ends.family == ADDR_IP4 ? 4 : 16;

		o = inspect_set(o, "source", inspect_ip(span_of(i.ends.src, len)));
		o = inspect_set(o, "destination", inspect_ip(span_of(i.ends.dst, len)));
		o = inspect_set(o, "protocol", json_integer(i.ends.protocol));
		if (esp_proto_has_ports(i.ends.protocol)) {
			o = inspect_set(o, "source_port", json_integer(i.ends.src_port));
			o = inspect_set(o, "destination_port", json_integer(i.ends.dst_port));
		}
	}
	o = inspect_set(o, "hex", inspect_hex(packet));
	return o;
}

/* ERR_NOMEM, ERR_SYSTEM, or what esp_packet_open() says. */
static enum err open_packet(struct span d, const struct esp_head *h, const struct inspect_key *key, json_t **ret)
{
	uint8_t *out = malloc(d.len), next;
	struct esp_cipher c;
	struct span plain;
	enum err e;

	if (!out)
		return ERR_NOMEM;
	e = esp_cipher_init(&c, key->alg, key->bytes.p, NULL, key->esn);
	if (e == OK)
		e = esp_packet_open(&c, (uint64_t)(key->esn ? key->seq_high : 0) << 32 | h->seq, d, out, &next, &plain);
	if (e == OK)
		*ret = inner(next, plain);
	if (e == OK && !*ret)
		e = ERR_NOMEM;
	esp_cipher_done(&c);
	secret_wipe(out, d.len);
	free(out);
	return e;
}

json_t *inspect_esp(struct span d, const struct inspect_options *o)
{
	struct inspect_key key;
	struct esp_head h;
	json_t *payloads, *packet = NULL;
	enum err e = ERR_NOTFOUND;

	if (esp_packet_head(d, &h) != OK || h.spi < ESP_SPI_MIN)
		return inspect_no("esp", d.len < ESP_MIN ? "shorter than any ESP packet" : "reserved SPI",
				  d.len < ESP_MIN ? d.len : 0);
	if (inspect_key_esp(o->keys, h.spi, &key) == OK) {
		e = open_packet(d, &h, &key, &packet);
		if (e == ERR_AUTH)
			return inspect_no("esp", "not by this key", ESP_HDR);
		if (e == ERR_NOMEM)
			return NULL;
		if (e != OK)
			return inspect_no_of("esp", "decrypted", "trailer", e, d.len - CIPHER_ICV);
	}
	payloads = json_array();
	if (packet)
		payloads = inspect_append(payloads, packet);
	return inspect_yes("esp", json_pack("{s:{s:o, s:I, s:I}, s:b, s:o}", "header", "spi", inspect_hex32(h.spi),
					    "sequence", (json_int_t)h.seq, "length", (json_int_t)d.len, "decrypted",
					    e == OK, "payloads", payloads));
}
