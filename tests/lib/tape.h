/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>

/*
 * A transport "tape:" for destinations that plays bytes from memory, as if a source sent them and
 * hung up. What the destination answers is thrown away. One tape at a time in a process.
 */
const FerryTransport *const *tape_transports(const guint8 *data, size_t len);

/* Changes what the next connection plays. */
void tape_load(const guint8 *data, size_t len);

/*
 * A transport "record:URI" for sources that keeps what goes from source to destination. The bytes
 * of the last connection are in the array that was given; borrowed. What was recorded can be read
 * back, with the byte that recorder_spoil() names changed.
 */
const FerryTransport *const *recorder_transports(GByteArray *kept);

/* The offset of the byte that is read back wrong; -1 for none. */
void recorder_spoil(gssize offset);
