/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * One number for the content of all RAM, the same on both sides if and only if (but for chance)
 * every block's name, size and bytes are: XXH3-64 of 2 MiB chunks, combined in order. Memory that
 * was never touched counts as zeros and stays untouched.
 *
 * A source digests everything while its guest is stopped, since only that proves that no dirty page
 * was missed. A destination knows of every write, being the writer, so it follows the stream:
 * chunks are digested while later rounds come in, and only those that changed again are left for
 * the downtime.
 */
typedef struct FerryDigest FerryDigest;

/* @ram is borrowed. Every chunk is stale at first. */
FerryDigest *ferry_digest_new(const FerryRam *ram);
/* The block's bytes do not count: it is told by name and size. Before anything is digested. */
void ferry_digest_leave_out(FerryDigest *digest, guint block);
/* NULL is allowed. */
void ferry_digest_free(FerryDigest *digest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryDigest, ferry_digest_free)

/* The run was written: call it after the write. Any thread. */
void ferry_digest_touched(FerryDigest *digest, const FerryRun *run);

/* Digests what was written since in a thread of its own, while the caller goes on writing; a chunk
 * that is written meanwhile is stale again. Returns at once. One thread calls this and
 * ferry_digest_finish(). */
void ferry_digest_catch_up(FerryDigest *digest);

/* Digests the rest, in up to four threads, and gives the number. Nothing may write RAM meanwhile.
 * Returns FALSE, with *@value unset, if *@cancel became non-zero (atomic; NULL is allowed). */
gboolean ferry_digest_finish(FerryDigest *digest, const gint *cancel, guint64 *value);

/* How long ferry_digest_ram() takes, us, by a sample of 64 MiB from all over RAM. Any thread; the
 * guest may run. */
gint64 ferry_digest_estimate(const FerryRam *ram);

/* The digest of all of @ram, with nothing known before. */
gboolean ferry_digest_ram(const FerryRam *ram, const gint *cancel, guint64 *value);
