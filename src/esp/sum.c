/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/sum.h"

#include <stdatomic.h>
#include <string.h>

#include "esp/offload_impl.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_AVX2 1
#else
#define HAVE_AVX2 0
#endif

#define INLINE static inline __attribute__((always_inline))

/* The sum modulo 0xffff may be taken of words of any size and, but for a swap at the end, in any byte order (RFC
 * 1071, 2): halves of 64-bit words into 64-bit sums, which 2^31 of them do not overflow. */
INLINE uint64_t halves(uint64_t w)
{
	return (w & 0xffffffffu) + (w >> 32);
}

INLINE uint64_t portable(uint8_t *dst, const uint8_t *src, size_t len, uint64_t sum)
{
	uint64_t w[2], other = 0;

	for (; len >= sizeof(w); len -= sizeof(w), src += sizeof(w)) {
		memcpy(w, src, sizeof(w));
		sum += halves(w[0]);
		other += halves(w[1]);
		if (dst) {
			memcpy(dst, w, sizeof(w));
			dst += sizeof(w);
		}
	}
	memset(w, 0, sizeof(w));
	if (len)
		memcpy(w, src, len);
	if (dst && len)
		memcpy(dst, w, len);
	return sum + other + halves(w[0]) + halves(w[1]);
}

static uint64_t portable_sum(const uint8_t *src, size_t len)
{
	return portable(NULL, src, len, 0);
}

static uint64_t portable_copy(uint8_t *dst, const uint8_t *src, size_t len)
{
	return portable(dst, src, len, 0);
}

#if HAVE_AVX2
#define AVX2 __attribute__((target("avx2")))

/* The same with four 64-bit sums in a register, and four registers, so that no addition waits for the one before it. */
AVX2 INLINE uint64_t avx2(uint8_t *dst, const uint8_t *src, size_t len)
{
	const __m256i low = _mm256_set1_epi64x(0xffffffff);
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
	uint64_t lane[4];

	for (; len >= 64; len -= 64, src += 64) {
		__m256i v = _mm256_loadu_si256((const __m256i *)(const void *)src);
		__m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(src + 32));

		if (dst) {
			_mm256_storeu_si256((__m256i *)(void *)dst, v);
			_mm256_storeu_si256((__m256i *)(void *)(dst + 32), w);
			dst += 64;
		}
		a = _mm256_add_epi64(a, _mm256_and_si256(v, low));
		b = _mm256_add_epi64(b, _mm256_srli_epi64(v, 32));
		c = _mm256_add_epi64(c, _mm256_and_si256(w, low));
		d = _mm256_add_epi64(d, _mm256_srli_epi64(w, 32));
	}
	a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
	_mm256_storeu_si256((__m256i *)(void *)lane, a);
	return portable(dst, src, len, lane[0] + lane[1] + lane[2] + lane[3]);
}

AVX2 static uint64_t avx2_sum(const uint8_t *src, size_t len)
{
	return avx2(NULL, src, len);
}

AVX2 static uint64_t avx2_copy(uint8_t *dst, const uint8_t *src, size_t len)
{
	return avx2(dst, src, len);
}
#endif

struct impl {
	uint64_t (*sum)(const uint8_t *src, size_t len);
	uint64_t (*copy)(uint8_t *dst, const uint8_t *src, size_t len);
};

static const struct impl impls[ESP_SUM_KINDS] = {
	[ESP_SUM_PORTABLE] = { portable_sum, portable_copy },
#if HAVE_AVX2
	[ESP_SUM_AVX2] = { avx2_sum, avx2_copy },
#endif
};

bool esp_sum_has(enum esp_sum_kind kind)
{
#if HAVE_AVX2
	if (kind == ESP_SUM_AVX2)
		return __builtin_cpu_supports("avx2");
#endif
	return kind == ESP_SUM_PORTABLE;
}

/* To 16 bits, and from this machine's byte order to the network's. */
static uint32_t finish(uint64_t sum)
{
	uint16_t word;
	uint8_t bytes[2];

	sum = halves(sum);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	word = esp_sum_fold((uint32_t)sum);
	memcpy(bytes, &word, sizeof(bytes));
	return at16(bytes);
}

uint32_t esp_sum_by(enum esp_sum_kind kind, uint8_t *dst, const uint8_t *src, size_t len)
{
	return finish(dst ? impls[kind].copy(dst, src, len) : impls[kind].sum(src, len));
}

/* ---- which one ---- */

#define LONGEST 300

static bool agrees(enum esp_sum_kind kind)
{
	uint8_t bytes[LONGEST + 3], copy[LONGEST + 3];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i % 5 ? ~(i * 41) : 0xff);
	for (size_t len = 0; len <= LONGEST; len++) {
		const uint8_t *src = bytes + len % 4;
		uint32_t want = finish(portable_sum(src, len));

		memset(copy, 0, sizeof(copy));
		if (esp_sum_by(kind, NULL, src, len) != want || esp_sum_by(kind, copy + 1, src, len) != want ||
		    memcmp(copy + 1, src, len) || copy[0] || copy[len + 1])
			return false;
	}
	return true;
}

/* Set at the first use. Two threads that come first together come to the same. */
static _Atomic(const struct impl *) chosen;

__attribute__((noinline, cold)) static const struct impl *choose(void)
{
	enum esp_sum_kind kind = esp_sum_has(ESP_SUM_AVX2) && agrees(ESP_SUM_AVX2) ? ESP_SUM_AVX2 : ESP_SUM_PORTABLE;

	atomic_store_explicit(&chosen, &impls[kind], memory_order_relaxed);
	return &impls[kind];
}

INLINE const struct impl *impl(void)
{
	const struct impl *i = atomic_load_explicit(&chosen, memory_order_relaxed);

	return i ? i : choose();
}

enum esp_sum_kind esp_sum_chosen(void)
{
	return (enum esp_sum_kind)(impl() - impls);
}

uint32_t esp_sum(const uint8_t *p, size_t len)
{
	return finish(impl()->sum(p, len));
}

uint32_t esp_sum_copy(uint8_t *dst, const uint8_t *src, size_t len)
{
	return finish(impl()->copy(dst, src, len));
}
