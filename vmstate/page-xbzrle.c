/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/page-codec.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/*
 * The encoder first makes a bitmap of the bytes that differ, a word for each 64 of them, and then
 * takes the runs off it: what is equal, mostly the whole page, costs one look at 64 bytes, and a
 * run costs the same whatever it consists of.
 */
#define CHUNK 64u
#define CHUNKS (FERRY_PAGE_SIZE / CHUNK)
/* The most that the two counts of a pair of runs take. */
#define COUNTS_MAX 4u

/* Bit n: byte n of the chunk differs. */
#ifdef __SSE2__
static inline guint64 compare_chunk(const guint8 *a, const guint8 *b)
{
	__m128i same[CHUNK / 16];
	__m128i all;
	guint64 equal = 0;

	for (guint i = 0; i < CHUNK / 16; i++)
		same[i] = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(a + i * 16)),
					 _mm_loadu_si128((const __m128i *)(b + i * 16)));
	all = _mm_and_si128(_mm_and_si128(same[0], same[1]), _mm_and_si128(same[2], same[3]));
	if (_mm_movemask_epi8(all) == 0xffff)
		return 0;
	for (guint i = 0; i < CHUNK / 16; i++)
		equal |= (guint64)(guint)_mm_movemask_epi8(same[i]) << (i * 16);
	return ~equal;
}
#else
static inline guint64 compare_chunk(const guint8 *a, const guint8 *b)
{
	const guint64 low = 0x7f7f7f7f7f7f7f7full;
	guint64 x[CHUNK / 8], y[CHUNK / 8], any = 0, differ = 0;

	memcpy(x, a, CHUNK);
	memcpy(y, b, CHUNK);
	for (guint i = 0; i < CHUNK / 8; i++)
		any |= x[i] ^= y[i];
	if (!any)
		return 0;
	for (guint i = 0; i < CHUNK / 8; i++) {
		guint64 word = GUINT64_FROM_LE(x[i]);
		/* The top bit of each byte that is not 0; then these bits side by side. */
		guint64 tops = (((word & low) + low) | word) & ~low;

		differ |= ((tops >> 7) * 0x0102040810204080ull >> 56) << (i * 8);
	}
	return differ;
}
#endif

/* FALSE if the pages are equal. */
static gboolean compare_pages(const guint8 *before, const guint8 *now, guint64 differ[CHUNKS])
{
	guint64 any = 0;

	for (guint i = 0; i < CHUNKS; i++)
		any |= differ[i] = compare_chunk(before + i * CHUNK, now + i * CHUNK);
	return any != 0;
}

/* One or two equal bytes between others are fewer than the counts that would skip them. */
static void close_gaps(guint64 differ[CHUNKS])
{
	guint64 last = 0;

	for (guint i = 0; i < CHUNKS; i++) {
		guint64 word = differ[i];
		guint64 next = i + 1 < CHUNKS ? differ[i + 1] : 0;
		guint64 one_before = word << 1 | last >> 63, two_before = word << 2 | last >> 62;
		guint64 one_behind = word >> 1 | next << 63, two_behind = word >> 2 | next << 62;

		differ[i] = word | (one_before & (one_behind | two_behind)) |
			    (two_before & one_behind);
		last = word;
	}
}

/* The first byte from @at on that differs, or with @flip is equal; FERRY_PAGE_SIZE: none. */
static guint find(const guint64 differ[CHUNKS], guint at, guint64 flip)
{
	guint i = at / CHUNK;
	guint64 word;

	if (i == CHUNKS)
		return FERRY_PAGE_SIZE;
	word = (differ[i] ^ flip) & (G_MAXUINT64 << at % CHUNK);
	while (!word) {
		if (++i == CHUNKS)
			return FERRY_PAGE_SIZE;
		word = differ[i] ^ flip;
	}
	return i * CHUNK + (guint)__builtin_ctzll(word);
}

/* ULEB128 of a count of at most FERRY_PAGE_SIZE. */
static guint put_count(guint8 *out, guint count)
{
	if (count < 0x80) {
		out[0] = (guint8)count;
		return 1;
	}
	out[0] = (guint8)(count | 0x80);
	out[1] = (guint8)(count >> 7);
	return 2;
}

gssize ferry_xbzrle_encode(const guint8 *before, const guint8 *now, guint8 *out, size_t room)
{
	guint64 differ[CHUNKS];
	size_t len = 0;
	guint at = 0;

	if (!compare_pages(before, now, differ))
		return 0;
	close_gaps(differ);
	for (;;) {
		guint start = find(differ, at, 0), end;
		guint8 counts[COUNTS_MAX];
		guint n;

		if (start == FERRY_PAGE_SIZE)
			return (gssize)len;
		end = find(differ, start, G_MAXUINT64);
		n = put_count(counts, start - at);
		n += put_count(counts + n, end - start);
		if (n + (end - start) > room - len)
			return -1;
		memcpy(out + len, counts, n);
		memcpy(out + len + n, now + start, end - start);
		len += n + (end - start);
		at = end;
	}
}

/* Takes a count off the front of @data; FALSE where it is cut short or longer than two bytes. */
static gboolean get_count(const guint8 *data, size_t len, size_t *at, guint *count)
{
	guint value;

	if (*at >= len)
		return FALSE;
	value = data[(*at)++];
	if (value & 0x80) {
		if (*at >= len || data[*at] & 0x80)
			return FALSE;
		value = (value & 0x7f) | (guint)data[(*at)++] << 7;
	}
	*count = value;
	return TRUE;
}

static gboolean refuse(size_t at, size_t len, const char *what, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
		    "a page encoded by xbzrle, byte %zu of %zu: %s", at, len, what);
	return FALSE;
}

gboolean ferry_xbzrle_decode(const guint8 *data, size_t len, guint8 *page, GError **error)
{
	guint done = 0;
	size_t at = 0;

	while (at < len) {
		size_t begin = at;
		guint equal, changed;

		if (!get_count(data, len, &at, &equal) || !get_count(data, len, &at, &changed))
			return refuse(begin, len, "a count is cut short or too long", error);
		if (!changed || (begin && !equal))
			return refuse(begin, len, "a run of no bytes", error);
		/* Counts have 14 bits: nothing overflows. */
		if (done + equal + changed > FERRY_PAGE_SIZE)
			return refuse(begin, len, "a run ends behind the page", error);
		if (changed > len - at)
			return refuse(begin, len, "its bytes are cut short", error);
		memcpy(page + done + equal, data + at, changed);
		at += changed;
		done += equal + changed;
	}
	return TRUE;
}
