/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>

/*
 * One number for the content of all RAM, the same on both sides if and only if (but for chance)
 * every block's name, size and bytes are: XXH3-64 of 2 MiB chunks, combined in order. Uses up to
 * four threads. Memory that was never touched counts as zeros and stays untouched. The guest must
 * be stopped. Returns FALSE, with *@digest unset, if *@cancel became non-zero (atomic; NULL is
 * allowed).
 */
gboolean ferry_digest_ram(const FerryRam *ram, const gint *cancel, guint64 *digest);
