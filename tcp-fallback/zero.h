/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * Makes guest pages zero without populating memory that never was. A page that is zero already is
 * not written, and no hole is ever punched: an RDMA device may have the memory registered, and
 * would go on writing to the page that was cut out.
 */
typedef struct {
	/* /proc/self/pagemap; -1 when it cannot be had: then reading finds out. Owned */
	int pagemap;
} FerryZeroer;

FerryZeroer ferry_zeroer_open(void);
void ferry_zeroer_close(FerryZeroer *zeroer);

/* @run lies inside @ram. Any thread. */
void ferry_zeroer_clear(const FerryZeroer *zeroer, const FerryRam *ram, const FerryRun *run);
