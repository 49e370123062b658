/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include <linux/userfaultfd.h>

/*
 * userfaultfd(2): in write-protect mode over a whole FerryRam, and in the modes that let accesses
 * to missing pages wait. The features that Debian 12's headers (6.1) lack are defined here.
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

/* ---- missing pages; any thread ---- */

/* @mode: UFFDIO_REGISTER_MODE_MISSING, or with _MINOR. The kernel must offer all of @ioctls there,
 * a mask of 1 << _UFFDIO_...; else nothing stays registered, and errno is EOPNOTSUPP. */
gboolean ferry_uffd_register(int fd, guint64 start, guint64 len, guint64 mode, guint64 ioctls);
/* Wakes all waiters too. */
void ferry_uffd_unregister(int fd, guint64 start, guint64 len);

/*
 * Each gives pages to [@start, @start + @len) and wakes who waits for them, up to the first page
 * that it cannot do: returns the bytes done, and in *@failure why it stopped, 0 for the end.
 * EEXIST: the page is there. EFAULT of ferry_uffd_continue(): the file has a hole there. ENOENT:
 * not registered any more.
 */
guint64 ferry_uffd_continue(int fd, guint64 start, guint64 len, int *failure);
guint64 ferry_uffd_copy(int fd, guint64 start, const void *from, guint64 len, int *failure);

void ferry_uffd_wake(int fd, guint64 start, guint64 len);

/* The next fault that was not read yet: its address, and who waits (0 without
 * UFFD_FEATURE_THREAD_ID). Never blocks; FALSE: none now. */
gboolean ferry_uffd_read_fault(int fd, guint64 *address, gint32 *thread);
