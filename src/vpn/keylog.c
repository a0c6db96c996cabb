/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/keylog.c - keys of a call for a packet analyser: lines of Wireshark's tables ikev2_decryption_table and esp_sa. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "vpn/impl.h"

/* Names as the tables have them. */
static const struct {
	const char *ike, *ike_integ, *esp, *esp_integ;
} names[CIPHER_COUNT] = {
	[CIPHER_AES128_GCM] = { "AES-GCM-128 with 16 octet ICV [RFC5282]", "NONE [RFC4306]",
				"AES-GCM with 16 octet ICV [RFC4106]", "NULL" },
	[CIPHER_AES256_GCM] = { "AES-GCM-256 with 16 octet ICV [RFC5282]", "NONE [RFC4306]",
				"AES-GCM with 16 octet ICV [RFC4106]", "NULL" },
	[CIPHER_CHACHA20_POLY1305] = { "ChaCha20 with Poly1305 [RFC7634]", "NONE [RFC4306]",
				       "ChaCha20 with Poly1305 [RFC7634]", "NULL" },
	[CIPHER_AES128_CBC_SHA256] = { "AES-CBC-128 [RFC3602]", "HMAC_SHA2_256_128 [RFC4868]", "AES-CBC [RFC3602]",
				       "HMAC-SHA-256-128 [RFC4868]" },
	[CIPHER_AES256_CBC_SHA256] = { "AES-CBC-256 [RFC3602]", "HMAC_SHA2_256_128 [RFC4868]", "AES-CBC [RFC3602]",
				       "HMAC-SHA-256-128 [RFC4868]" },
};

/* One key as hexadecimal: encryption (of 32 octets at most) with its salt (4), integrity (32). */
struct key_hex {
	char e[2 * 36 + 1], a[2 * 32 + 1];
};

static void key_hex(enum cipher_alg alg, const uint8_t *key, struct key_hex *ret)
{
	size_t len = cipher_encr_size(alg);

	(void)hex_write(span_of(key, len), ret->e, sizeof(ret->e));
	(void)hex_write(span_of(key + len, cipher_integ_size(alg)), ret->a, sizeof(ret->a));
}

void keylog_ike_line(const struct ike_export *k, char *dst)
{
	struct key_hex i, r;

	key_hex(k->alg, k->key_i, &i);
	key_hex(k->alg, k->key_r, &r);
	(void)snprintf(dst, VPN_KEYS_LINE, "%016llx,%016llx,%s,%s,\"%s\",%s,%s,\"%s\"", (unsigned long long)k->spi_i,
		       (unsigned long long)k->spi_r, i.e, r.e, names[k->alg].ike, i.a, r.a, names[k->alg].ike_integ);
	secret_wipe(&i, sizeof(i));
	secret_wipe(&r, sizeof(r));
}

/* Addresses are left open: a NAT changes them, and a call may move. The SPI says whose packet it is. The last two members, of
 * extended sequence numbers, are written only where there are any: older tables do not have them. */
void keylog_esp_line(bool ip6, uint32_t spi, enum cipher_alg alg, const uint8_t *key, bool esn, char *dst)
{
	bool integ = cipher_integ_size(alg) != 0;
	struct key_hex k;

	key_hex(alg, key, &k);
	(void)snprintf(dst, VPN_KEYS_LINE, "\"%s\",\"*\",\"*\",\"0x%08x\",\"%s\",\"0x%s\",\"%s\",\"%s%s\"%s",
		       ip6 ? "IPv6" : "IPv4", spi, names[alg].esp, k.e, names[alg].esp_integ, integ ? "0x" : "", k.a,
		       esn ? ",\"64-bit\",\"0\"" : "");
	secret_wipe(&k, sizeof(k));
}

static bool wanted(const struct vpn *v, const struct call *c)
{
	return c->outgoing && c->export_keys && v->cfg->export_keys;
}

void keylog_ike(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_export *k)
{
	struct vpn_event e;

	if (!wanted(v, c))
		return;
	e = vpn_event_of(c, now_us, VPN_EV_KEYS);
	e.keys_table = "ikev2_decryption_table";
	keylog_ike_line(k, e.keys_line);
	vpn_tell(v, &e);
	vpn_event_done(&e);
	vpn_audit(v, c, "keys of the IKE SA %016llx are given to who made the call", (unsigned long long)k->spi_i);
}

static void esp_one(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_child *k, bool in)
{
	struct vpn_event e = vpn_event_of(c, now_us, VPN_EV_KEYS);

	e.keys_table = "esp_sa";
	keylog_esp_line(c->path.remote.family == ADDR_IP6, in ? k->spi_in : k->spi_out, k->alg,
			in ? k->key_in : k->key_out, k->esn, e.keys_line);
	vpn_tell(v, &e);
	vpn_event_done(&e);
}

void keylog_esp(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_child *k)
{
	if (!wanted(v, c))
		return;
	esp_one(v, c, now_us, k, false);
	esp_one(v, c, now_us, k, true);
	vpn_audit(v, c, "keys of the Child SA %08x are given to who made the call", k->spi_in);
}
