/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/sum.h - the Internet checksum's sum (RFC 1071) over long runs of bytes: the one loop, beside the cipher, that
 * sees every byte of the data plane.
 *
 * Two implementations, of which the faster one is taken where the machine has it and where it agreed with the other
 * at the first use. Reading and copying never go beyond len. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sum of the big-endian 16-bit words, an odd last byte being a high half; folded, at most 0xffff, and 0 only where
 * every byte is 0. Not inverted. Sums of parts add up where each part but the last has an even length. */
uint32_t esp_sum(const uint8_t *p, size_t len);
/* The same, copying on the way. dst and src do not overlap. */
uint32_t esp_sum_copy(uint8_t *dst, const uint8_t *src, size_t len);
/* The sum of up to 65,536 folded ones, folded. */
static inline uint16_t esp_sum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* For tests and the bench. */
enum esp_sum_kind { ESP_SUM_PORTABLE, ESP_SUM_AVX2, ESP_SUM_KINDS };
bool esp_sum_has(enum esp_sum_kind kind); /* on this machine */
enum esp_sum_kind esp_sum_chosen(void);
/* dst NULL: no copy. Only where esp_sum_has(). */
uint32_t esp_sum_by(enum esp_sum_kind kind, uint8_t *dst, const uint8_t *src, size_t len);
