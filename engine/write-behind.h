/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/*
 * Hands filled buffers to threads that write them away, so that reading a stream and touching fresh
 * memory, which costs three times as much, go on at once. Buffers may be written in any order.
 */
typedef struct FerryWriteBehind FerryWriteBehind;

#define FERRY_WRITE_BEHIND_BUFFER (256u << 10)

/* Writes @len bytes at @bytes to where @block and @offset say; in a thread of the write-behind,
 * several at once. FALSE with an error, which ends up with the owner. */
typedef gboolean (*FerryWriteBehindFunc)(gpointer user, guint block, guint64 offset,
					 const guint8 *bytes, size_t len, GError **error);

/* @user is borrowed. Starts the threads. */
FerryWriteBehind *ferry_write_behind_new(FerryWriteBehindFunc write, gpointer user);
/* Writes what is left, then frees. NULL is allowed. */
void ferry_write_behind_free(FerryWriteBehind *behind);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryWriteBehind, ferry_write_behind_free)

/* The owner's thread: a buffer of FERRY_WRITE_BEHIND_BUFFER bytes to fill; waits for a free one. It
 * must be submitted, with a @len of 0 if it was not needed. */
guint8 *ferry_write_behind_buffer(FerryWriteBehind *behind);
void ferry_write_behind_submit(FerryWriteBehind *behind, guint block, guint64 offset, size_t len);

/* Waits until everything is written. Fails with the first error of any write, also of earlier
 * ones. */
gboolean ferry_write_behind_drain(FerryWriteBehind *behind, GError **error);
