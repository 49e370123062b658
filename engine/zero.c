/* SPDX-License-Identifier: BSD-2-Clause */
#include "zero.h"

#include <string.h>

typedef gboolean (*IsZero)(const guint8 *p, size_t len);

/* All variants look at blocks of 256 bytes: enough loads in flight to run at memory speed, and an
 * early way out of a page that is not zero. */
#define BLOCK 256

static gboolean tail_is_zero(const guint8 *p, size_t len)
{
	guint64 sum = 0, word;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum |= word;
	}
	while (len--)
		sum |= *p++;
	return sum == 0;
}

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f"))) static gboolean avx512_is_zero(const guint8 *p, size_t len)
{
	for (; len >= BLOCK; p += BLOCK, len -= BLOCK) {
		__m512i a = _mm512_or_si512(_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64));
		__m512i b = _mm512_or_si512(_mm512_loadu_si512(p + 128),
					    _mm512_loadu_si512(p + 192));
		__m512i all = _mm512_or_si512(a, b);

		if (_mm512_test_epi64_mask(all, all))
			return FALSE;
	}
	return tail_is_zero(p, len);
}

__attribute__((target("avx2"))) static gboolean avx2_is_zero(const guint8 *p, size_t len)
{
	for (; len >= BLOCK; p += BLOCK, len -= BLOCK) {
		__m256i all = _mm256_loadu_si256((const __m256i *)p);

		for (size_t i = 32; i < BLOCK; i += 32)
			all = _mm256_or_si256(all, _mm256_loadu_si256((const __m256i *)(p + i)));
		if (!_mm256_testz_si256(all, all))
			return FALSE;
	}
	return tail_is_zero(p, len);
}

/* What every x86-64 has. */
static gboolean base_is_zero(const guint8 *p, size_t len)
{
	for (; len >= BLOCK; p += BLOCK, len -= BLOCK) {
		__m128i all = _mm_loadu_si128((const __m128i *)p);

		for (size_t i = 16; i < BLOCK; i += 16)
			all = _mm_or_si128(all, _mm_loadu_si128((const __m128i *)(p + i)));
		if (_mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_setzero_si128())) != 0xffff)
			return FALSE;
	}
	return tail_is_zero(p, len);
}

/* A look at flags that libgcc read at start-up: two loads, so that no pointer has to be kept. */
static inline IsZero choose(void)
{
	if (__builtin_cpu_supports("avx512f"))
		return avx512_is_zero;
	if (__builtin_cpu_supports("avx2"))
		return avx2_is_zero;
	return base_is_zero;
}
#else
static gboolean base_is_zero(const guint8 *p, size_t len)
{
	for (; len >= BLOCK; p += BLOCK, len -= BLOCK)
		if (!tail_is_zero(p, BLOCK))
			return FALSE;
	return tail_is_zero(p, len);
}

static inline IsZero choose(void)
{
	return base_is_zero;
}
#endif

gboolean ferry_is_zero(const void *p, size_t len)
{
	return choose()(p, len);
}

guint64 ferry_zero_split(const guint8 *host, guint64 pages, gboolean *zero)
{
	IsZero is_zero = choose();
	gboolean first = is_zero(host, FERRY_PAGE_SIZE);
	guint64 n = 1;

	while (n < pages && is_zero(host + (n << FERRY_PAGE_SHIFT), FERRY_PAGE_SIZE) == first)
		n++;
	*zero = first;
	return n;
}
