/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <stdint.h>

/*
 * What a page of the reference guests holds. Every word is a function of (seed, address, sequence),
 * so that a page that is lost, torn, stale or misplaced differs from what it must hold in nearly
 * every word.
 *
 *   word 0  guest-physical address of the page
 *   word 1  sequence: how often the guest has written the page
 *   word 2  seed
 *   word 3  checksum over the other 511 words: a page can be judged without knowing what it should
 * hold 4..511  key + word * FERRY_PAGE_STEP, key = hash(seed, address, sequence)
 *
 * A page of sequence 0 holds what the RAM was filled with: this format, incompressible words, or
 * zero. Where it was filled sparsely, a write changes the first FERRY_PAGE_SPARSE words alone: the
 * key of those behind them is that of sequence 0. Compiled into the program that the KVM guest
 * runs as well: freestanding, integers only.
 */
#define FERRY_PAGE_BYTES 4096u
#define FERRY_PAGE_WORDS 512u
#define FERRY_PAGE_HEAD 4u
#define FERRY_PAGE_SPARSE 8u
#define FERRY_PAGE_STEP 0x9e3779b97f4a7c15ull

enum {
	FERRY_PAGE_ADDRESS,
	FERRY_PAGE_SEQUENCE,
	FERRY_PAGE_SEED,
	FERRY_PAGE_CHECKSUM
};

/* The content of pages of sequence 0. The numbers travel as device state. */
enum {
	FERRY_FILL_PAGES,
	FERRY_FILL_RANDOM,
	FERRY_FILL_ZERO,
	FERRY_FILL_SPARSE, /* as PAGES, and what a write changes of a page is 64 bytes */
	FERRY_FILL__N
};

/* The engine reads RAM while the guest writes it: races that dirty tracking makes good. */
#if defined(__SANITIZE_THREAD__)
#define FERRY_PAGE_RACY __attribute__((no_sanitize_thread))
#else
#define FERRY_PAGE_RACY
#endif

/* Everything that the words of one version of one page depend on. */
typedef struct {
	uint64_t head[FERRY_PAGE_HEAD];
	uint64_t key;
	uint64_t rest; /* the key of the words from FERRY_PAGE_SPARSE on */
	uint32_t fill; /* FERRY_FILL_PAGES for every sequence but 0 */
} FerryPageText;

/* The finaliser of SplitMix64: a bijection in which every bit of @x changes half of the bits. */
static inline uint64_t ferry_page_hash(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* @body: the sum of the words from FERRY_PAGE_HEAD on. */
static inline uint64_t ferry_page_checksum(const uint64_t *head, uint64_t body)
{
	return ferry_page_hash(
		body + ferry_page_hash(head[FERRY_PAGE_ADDRESS] +
				       ferry_page_hash(head[FERRY_PAGE_SEQUENCE] +
						       ferry_page_hash(head[FERRY_PAGE_SEED]))));
}

static inline uint64_t ferry_page_key(uint64_t seed, uint64_t address, uint64_t sequence)
{
	return ferry_page_hash(seed ^ ferry_page_hash(address ^ ferry_page_hash(sequence)));
}

static inline FerryPageText ferry_page_text(uint64_t seed, uint32_t fill, uint64_t address,
					    uint64_t sequence)
{
	const uint64_t n = FERRY_PAGE_WORDS - FERRY_PAGE_SPARSE;
	const uint64_t sum_of_indices = (uint64_t)(FERRY_PAGE_WORDS - FERRY_PAGE_HEAD) *
					(FERRY_PAGE_HEAD + FERRY_PAGE_WORDS - 1) / 2;
	FerryPageText text = { .head = { address, sequence, seed, 0 },
			       .fill = sequence ? (uint32_t)FERRY_FILL_PAGES : fill };

	text.key = ferry_page_key(seed, address, sequence);
	text.rest = fill == FERRY_FILL_SPARSE ? ferry_page_key(seed, address, 0) : text.key;
	text.head[FERRY_PAGE_CHECKSUM] = ferry_page_checksum(
		text.head, (FERRY_PAGE_SPARSE - FERRY_PAGE_HEAD) * text.key + n * text.rest +
				   sum_of_indices * FERRY_PAGE_STEP);
	return text;
}

static inline uint64_t ferry_page_word(const FerryPageText *text, uint32_t word)
{
	if (text->fill == FERRY_FILL_ZERO)
		return 0;
	if (text->fill == FERRY_FILL_RANDOM)
		return ferry_page_hash(text->key + word * FERRY_PAGE_STEP);
	if (word < FERRY_PAGE_HEAD)
		return text->head[word];
	return (word < FERRY_PAGE_SPARSE ? text->key : text->rest) + word * FERRY_PAGE_STEP;
}

/* The number of leading words of @page that are as in @text; FERRY_PAGE_WORDS if all are. */
FERRY_PAGE_RACY static inline uint32_t ferry_page_match(const uint64_t *page,
							const FerryPageText *text)
{
	uint32_t word = 0;

	while (word < FERRY_PAGE_WORDS && page[word] == ferry_page_word(text, word))
		word++;
	return word;
}

/* Stores word by word, lowest address first: a guest that is stopped within leaves a prefix of
 * @text. */
FERRY_PAGE_RACY static inline void ferry_page_write(uint64_t *page, const FerryPageText *text)
{
	volatile uint64_t *to = page;

	for (uint32_t word = 0; word < FERRY_PAGE_WORDS; word++)
		to[word] = ferry_page_word(text, word);
}
