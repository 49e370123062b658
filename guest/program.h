/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "page.h"

/*
 * The program that every vCPU of the reference guests runs, whichever way:
 *
 *   for ever:
 *     ring the doorbell; it answers when something is due: a number of pages, and maybe a beat
 *     if a beat is due: heartbeat + 1, to the mailbox and to the clock device
 *     for each page granted:
 *       address = page number (progress mod pages) of pass (progress / pages)
 *       check that the page holds the sequence progress / pages
 *       write it with the next sequence
 *       progress + 1
 *
 * The content of all RAM is thus a function of the plan and of each vCPU's progress; a vCPU that is
 * stopped within a page leaves a prefix of the new version there. Progress lives in vCPU state
 * alone, so that a vCPU whose state is lost cannot look right. Freestanding, as page.h.
 */

#define FERRY_VCPUS_MAX 8u

/* ---- where things are in guest-physical memory ---- */

#define FERRY_AT_TSS 0x1000u
#define FERRY_AT_PML4 0x2000u
#define FERRY_AT_PDPT 0x3000u
#define FERRY_AT_MAILBOX 0x8000u  /* a page for each vCPU */
#define FERRY_AT_STACK 0x10000u   /* a page for each vCPU */
#define FERRY_AT_PROGRAM 0x18000u /* also in kvm-program.ld */
#define FERRY_PROGRAM_MAX 0x8000u /* bytes */
#define FERRY_AT_PD 0x20000u      /* a page directory for each GiB */

/* ---- the two ports of the clock device ---- */

#define FERRY_PORT_DOORBELL 0x10u /* in, 32 bits: FERRY_DOORBELL_BEAT | number of pages */
#define FERRY_PORT_BEAT 0x14u     /* out, 32 bits: the low half of the new heartbeat */
#define FERRY_DOORBELL_BEAT 0x80000000u
#define FERRY_DOORBELL_PAGES 0x7fffffffu

/* ---- the order in which pages are written; the numbers travel as device state ---- */

enum {
	FERRY_ORDER_NONE,
	FERRY_ORDER_SWEEP,
	FERRY_ORDER_RANDOM,
	FERRY_ORDER__N
};

/* One vCPU's share of RAM. */
typedef struct {
	uint64_t seed;
	uint64_t fill;
	uint64_t order;
	uint64_t first; /* guest-physical address of the first page */
	uint64_t pages; /* how many of them the vCPU writes; 0 if it is idle */
} FerrySlice;

/* What a vCPU keeps outside of RAM: in the KVM guest five registers, in the process guest this. */
typedef struct {
	uint64_t progress; /* pages written since the guest was made */
	uint64_t beat;     /* heartbeats */
	uint64_t bursts;   /* answers of the doorbell */
	uint64_t faults;   /* what the program itself found wrong */
	uint64_t cookie;   /* constant: ferry_program_cookie() */
} FerryRegisters;

/* One page of RAM for each vCPU. */
typedef struct {
	FerrySlice slice;
	uint64_t cookie;
	uint64_t beat;           /* stored by the vCPU just before its register changes */
	uint64_t device_bursts;  /* stored by the clock device, which counts on its own */
	uint64_t fault_address;  /* of the last bad page; else 0 */
	uint64_t fault_sequence; /* the one that was expected there */
} FerryMailbox;

static inline uint64_t ferry_program_cookie(uint64_t seed, uint32_t vcpu)
{
	return ferry_page_hash(seed + (vcpu + 1) * FERRY_PAGE_STEP) | 1;
}

/* A permutation of 0..@n-1 that @key chooses. Walks the cycle of a permutation of the next power of
 * two until it is back inside; less than two steps on average. */
static inline uint64_t ferry_program_permute(uint64_t x, uint64_t n, uint64_t key)
{
	const uint32_t bits = n > 1 ? 64 - (uint32_t)__builtin_clzll(n - 1) : 0;
	const uint64_t mask = bits ? ~0ull >> (64 - bits) : 0;
	const uint64_t odd = ferry_page_hash(key) | 1;

	do {
		x = (x * odd + key) & mask;
		x ^= x >> ((bits + 1) / 2);
		x = (x * 0xbf58476d1ce4e5b9ull + odd) & mask;
		x ^= x >> ((bits + 1) / 2);
	} while (x >= n);
	return x;
}

/* The address of the page that comes at @position of pass @pass. */
static inline uint64_t ferry_slice_address(const FerrySlice *slice, uint64_t pass,
					   uint64_t position)
{
	if (slice->order == FERRY_ORDER_RANDOM)
		position = ferry_program_permute(position, slice->pages,
						 slice->seed + pass * FERRY_PAGE_STEP);
	return slice->first + position * FERRY_PAGE_BYTES;
}

static inline FerryPageText ferry_slice_text(const FerrySlice *slice, uint64_t address,
					     uint64_t sequence)
{
	return ferry_page_text(slice->seed, (uint32_t)slice->fill, address, sequence);
}
