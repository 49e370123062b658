/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include <linux/userfaultfd.h>

/*
 * userfaultfd(2) in write-protect mode over a whole FerryRam. The features that Debian 12's headers
 * (6.1) lack are defined here.
 */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13) /* Linux 6.4 */
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15) /* Linux 6.7 */
#endif

/**
 * Opens a userfaultfd with the features @required, and those of @wanted that the kernel has.
 * @kernel_faults: faults in system calls and KVM will be read from it; without, no privilege is
 * needed.
 * @features: those that are on.
 * FERRY_ERROR_NOSUPP names what is missing and the remedy. Close with close().
 */
int ferry_uffd_open(guint64 required, guint64 wanted, gboolean kernel_faults, guint64 *features,
		    GError **error);

/* Registers and write-protects all of @ram; on failure nothing stays registered. */
gboolean ferry_uffd_protect_ram(int fd, const FerryRam *ram, GError **error);

/* Ends it: no page is protected, and threads that wait in a fault go on. */
void ferry_uffd_release_ram(int fd, const FerryRam *ram);

/* Protects, or lets go and wakes who waits for it. @start is an address. */
gboolean ferry_uffd_set_protection(int fd, guint64 start, guint64 len, gboolean on);
