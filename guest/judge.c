/* SPDX-License-Identifier: BSD-2-Clause */
#include "judge.h"

#define OLDER_MAX 4u /* versions that a torn page may be behind and is still known for one */

static const char *const names[] = {
	[FERRY_DAMAGE_LOST] = "lost",       [FERRY_DAMAGE_STALE] = "stale",
	[FERRY_DAMAGE_AHEAD] = "ahead",     [FERRY_DAMAGE_MISPLACED] = "misplaced",
	[FERRY_DAMAGE_FOREIGN] = "foreign", [FERRY_DAMAGE_TORN] = "torn",
	[FERRY_DAMAGE_CORRUPT] = "corrupt",
};

static gboolean is_zero(const uint64_t *page)
{
	uint64_t all = 0;

	for (guint i = 0; i < FERRY_PAGE_WORDS; i++)
		all |= page[i];
	return !all;
}

/* Whether it is some version of some page, by its own word. */
static gboolean is_whole(const uint64_t *page, guint32 fill)
{
	const guint32 written = fill == FERRY_FILL_SPARSE ? FERRY_FILL_SPARSE : FERRY_FILL_PAGES;
	FerryPageText own = ferry_page_text(page[FERRY_PAGE_SEED], written,
					    page[FERRY_PAGE_ADDRESS], page[FERRY_PAGE_SEQUENCE]);

	return ferry_page_match(page, &own) == FERRY_PAGE_WORDS;
}

/* The words at the end of @page that are as in @text. */
static guint match_tail(const uint64_t *page, const FerryPageText *text)
{
	guint n = 0;

	while (n < FERRY_PAGE_WORDS &&
	       page[FERRY_PAGE_WORDS - 1 - n] == ferry_page_word(text, FERRY_PAGE_WORDS - 1 - n))
		n++;
	return n;
}

/* Whether it is made up of two versions around the expected one; *@cut is where the second begins.
 */
static gboolean is_torn(const uint64_t *page, const FerryPageText *text, guint32 fill, guint *cut)
{
	const guint64 expected = text->head[FERRY_PAGE_SEQUENCE];
	guint head = 0, tail = 0;

	for (guint64 s = expected - MIN(expected, OLDER_MAX); s <= expected + 1; s++) {
		FerryPageText version = ferry_page_text(text->head[FERRY_PAGE_SEED], fill,
							text->head[FERRY_PAGE_ADDRESS], s);

		head = MAX(head, ferry_page_match(page, &version));
		tail = MAX(tail, match_tail(page, &version));
	}
	*cut = head;
	return head && tail && head + tail >= FERRY_PAGE_WORDS;
}

static FerryDamage judge_whole(const uint64_t *page, const FerryPageText *text)
{
	if (page[FERRY_PAGE_SEED] != text->head[FERRY_PAGE_SEED])
		return FERRY_DAMAGE_FOREIGN;
	if (page[FERRY_PAGE_ADDRESS] != text->head[FERRY_PAGE_ADDRESS])
		return FERRY_DAMAGE_MISPLACED;
	if (page[FERRY_PAGE_SEQUENCE] > text->head[FERRY_PAGE_SEQUENCE])
		return FERRY_DAMAGE_AHEAD;
	return page[FERRY_PAGE_SEQUENCE] ? FERRY_DAMAGE_STALE : FERRY_DAMAGE_LOST;
}

FerryDamage ferry_page_judge(const uint64_t *page, const FerryPageText *text, guint32 fill,
			     char *line, gsize line_size)
{
	FerryPageText filled = ferry_page_text(text->head[FERRY_PAGE_SEED], fill,
					       text->head[FERRY_PAGE_ADDRESS], 0);
	guint word = ferry_page_match(page, text);
	FerryDamage damage = FERRY_DAMAGE_CORRUPT;

	if (is_zero(page) || ferry_page_match(page, &filled) == FERRY_PAGE_WORDS)
		damage = FERRY_DAMAGE_LOST;
	else if (is_whole(page, fill))
		damage = judge_whole(page, text);
	else if (is_torn(page, text, fill, &word))
		damage = FERRY_DAMAGE_TORN;
	word = MIN(word, FERRY_PAGE_WORDS - 1);
	g_snprintf(line, line_size,
		   "page 0x%" G_GINT64_MODIFIER "x: %s, from byte %u on; version %" G_GUINT64_FORMAT
		   " expected, its words 0 and 1 say page 0x%" G_GINT64_MODIFIER
		   "x version %" G_GUINT64_FORMAT,
		   text->head[FERRY_PAGE_ADDRESS], names[damage], word * 8,
		   text->head[FERRY_PAGE_SEQUENCE], page[FERRY_PAGE_ADDRESS],
		   page[FERRY_PAGE_SEQUENCE]);
	return damage;
}
