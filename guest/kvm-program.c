/* SPDX-License-Identifier: BSD-2-Clause */
#include "program.h"

/*
 * The program of the KVM guest: freestanding, long mode, CPL 3, identity-mapped, no interrupts; linked to
 * run at FERRY_AT_PROGRAM. program.h says what it does. The five registers of FerryRegisters are reserved
 * for it (-ffixed-REG), so that they are never in RAM, and KVM_GET_REGS shows them at any stop.
 * The monitor enters it once, with the mailbox in rdi and the stack in rsp.
 */
register uint64_t progress asm("r15");
register uint64_t beat asm("r14");
register uint64_t bursts asm("r13");
register uint64_t faults asm("r12");
register uint64_t cookie asm("rbx");

void ferry_program_start(FerryMailbox *box);

/* Volatile, with the memory clobber: it comes after the stores before it and before those behind it. */
#define INCREMENT(reg) asm volatile("incq %0" : "+r"(reg) : : "cc", "memory")

static inline uint32_t ring_doorbell(void)
{
	uint32_t answer;

	asm volatile("inl %1, %0" : "=a"(answer) : "N"(FERRY_PORT_DOORBELL) : "memory");
	return answer;
}

/* xmm15 holds the cookie from the first instruction on: it shows lost SSE state. */
static inline void keep_sse_cookie(void)
{
	asm volatile("movq %0, %%xmm15" : : "r"(cookie));
}

static inline uint64_t sse_cookie(void)
{
	uint64_t value;

	asm volatile("movq %%xmm15, %0" : "=r"(value));
	return value;
}

static inline void check_burst(volatile FerryMailbox *box)
{
	if (cookie != box->cookie || sse_cookie() != cookie || bursts != box->device_bursts ||
	    beat != box->beat)
		INCREMENT(faults);
}

static inline void send_beat(volatile FerryMailbox *box)
{
	box->beat = beat + 1;
	INCREMENT(beat);
	asm volatile("outl %0, %1" : : "a"((uint32_t)beat), "N"(FERRY_PORT_BEAT) : "memory");
}

static inline void write_page(volatile FerryMailbox *box)
{
	const FerrySlice slice = box->slice;
	const uint64_t sequence = progress / slice.pages;
	const uint64_t address = ferry_slice_address(&slice, sequence, progress % slice.pages);
	uint64_t *page = (uint64_t *)address;
	FerryPageText text = ferry_slice_text(&slice, address, sequence);

	if (ferry_page_match(page, &text) != FERRY_PAGE_WORDS) {
		box->fault_address = address;
		box->fault_sequence = sequence;
		INCREMENT(faults);
	}
	text = ferry_slice_text(&slice, address, sequence + 1);
	ferry_page_write(page, &text);
	INCREMENT(progress);
}

__attribute__((section(".text.start"), noreturn)) void ferry_program_start(FerryMailbox *box)
{
	keep_sse_cookie();
	for (;;) {
		uint32_t answer = ring_doorbell();

		INCREMENT(bursts);
		check_burst(box);
		if (answer & FERRY_DOORBELL_BEAT)
			send_beat(box);
		for (answer &= FERRY_DOORBELL_PAGES; answer; answer--)
			write_page(box);
	}
}
