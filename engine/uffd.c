/* SPDX-License-Identifier: BSD-2-Clause */
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

/* Protecting a piece holds the lock of the whole address space, which whoever maps memory waits
 * for. */
#define PIECE_BYTES (16ull << 20)

static gboolean unsupported(GError **error, const char *what, const char *remedy)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "userfaultfd: %s; %s", what, remedy);
	return FALSE;
}

/* The device gives to those whom its file mode lets in what the system call gives to
 * CAP_SYS_PTRACE. */
static int open_device(int flags)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd, failure;

	if (device < 0)
		return -1;
	fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
	failure = errno;
	close(device);
	errno = failure;
	return fd;
}

static int open_fd(gboolean kernel_faults, GError **error)
{
	const int flags = O_CLOEXEC | O_NONBLOCK;
	int fd = (int)syscall(SYS_userfaultfd, flags);

	if (fd < 0 && errno == EPERM)
		fd = open_device(flags);
	if (fd < 0 && !kernel_faults)
		fd = (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
	if (fd >= 0)
		return fd;
	if (errno == ENOSYS)
		unsupported(error, "the kernel is built without it",
			    "use one with CONFIG_USERFAULTFD, Linux 5.7 or later");
	else if (errno == EPERM || errno == EACCES || errno == ENOENT)
		unsupported(
			error, "not permitted",
			"grant CAP_SYS_PTRACE, or access to /dev/userfaultfd (Linux 6.1), or set sysctl "
			"vm.unprivileged_userfaultfd=1");
	else
		unsupported(error, g_strerror(errno), "raise the limit of open files or of memory");
	return -1;
}

static gboolean handshake(int fd, guint64 features, guint64 *supported)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return FALSE;
	*supported = api.features;
	return TRUE;
}

static const char *name_missing(guint64 missing)
{
	if (missing & UFFD_FEATURE_PAGEFAULT_FLAG_WP)
		return "write protection (Linux 5.7, CONFIG_HAVE_ARCH_USERFAULTFD_WP)";
	if (missing & UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
		return "write protection of shared memory (Linux 5.19, CONFIG_PTE_MARKER_UFFD_WP)";
	if (missing & UFFD_FEATURE_WP_UNPOPULATED)
		return "write protection of untouched memory (Linux 6.4)";
	if (missing & UFFD_FEATURE_WP_ASYNC)
		return "asynchronous write protection (Linux 6.7)";
	if (missing & UFFD_FEATURE_MINOR_SHMEM)
		return "minor faults on shared memory (Linux 5.14)";
	if (missing & UFFD_FEATURE_MINOR_HUGETLBFS)
		return "minor faults on hugetlb (Linux 5.13)";
	return "missing faults on shared memory or hugetlb (Linux 4.11)";
}

/* Only dirty tracking asks for write protection. */
static const char *other_way(guint64 required)
{
	return required & UFFD_FEATURE_PAGEFAULT_FLAG_WP
		       ? "use a later kernel, or another dirty source"
		       : "use a later kernel, or no postcopy";
}

/* The kernel refuses a handshake with one feature too many without saying which, and allows one
 * handshake for each descriptor: the first descriptor is there to ask. */
int ferry_uffd_open(guint64 required, guint64 wanted, gboolean kernel_faults, guint64 *features,
		    GError **error)
{
	guint64 supported = 0, on;
	gboolean ok;
	int fd = open_fd(kernel_faults, error);

	if (fd < 0)
		return -1;
	ok = handshake(fd, 0, &supported);
	close(fd);
	if (!ok || (supported & required) != required) {
		g_autofree char *what = g_strdup_printf("this kernel lacks %s",
							name_missing(required & ~supported));

		unsupported(error, what, other_way(required));
		return -1;
	}
	fd = open_fd(kernel_faults, error);
	if (fd < 0)
		return -1;
	on = supported & (required | wanted);
	if (!handshake(fd, on, &supported)) {
		unsupported(error, g_strerror(errno), other_way(required));
		close(fd);
		return -1;
	}
	*features = on;
	return fd;
}

static gboolean set_protection(int fd, guint64 start, guint64 len, gboolean on)
{
	struct uffdio_writeprotect arg = {
		.range = { .start = start, .len = len },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int failed;

	/* EAGAIN: the address space is changing under it, as by mmap() elsewhere in the process. */
	do
		failed = ioctl(fd, UFFDIO_WRITEPROTECT, &arg);
	while (failed && (errno == EAGAIN || errno == EINTR));
	return !failed;
}

gboolean ferry_uffd_set_protection(int fd, guint64 start, guint64 len, gboolean on)
{
	for (guint64 at = start, end = start + len; at < end; at += PIECE_BYTES)
		if (!set_protection(fd, at, MIN(PIECE_BYTES, end - at), on))
			return FALSE;
	return TRUE;
}

static gboolean protect_block(int fd, const FerryRamBlock *block, GError **error)
{
	struct uffdio_register arg = {
		.range = { .start = (guintptr)block->host, .len = block->size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	const char *step = "register";

	if (ioctl(fd, UFFDIO_REGISTER, &arg) == 0) {
		step = "write-protect";
		if (ferry_uffd_set_protection(fd, (guintptr)block->host, block->size, TRUE))
			return TRUE;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "userfaultfd: cannot %s RAM block '%s' at %p, %" G_GUINT64_FORMAT
		    " bytes: %s; %s",
		    step, block->name, block->host, block->size, g_strerror(errno),
		    errno == EBUSY ? "another userfaultfd tracks it: end that first"
				   : "back it with a memfd, tmpfs, hugetlb or anonymous memory");
	return FALSE;
}

static void release_blocks(int fd, const FerryRam *ram, guint n)
{
	for (guint i = 0; i < n; i++) {
		struct uffdio_range range = {
			.start = (guintptr)ram->blocks[i].host,
			.len = ram->blocks[i].size,
		};

		/* Lifts the protection and wakes the waiters; fails only for what is not
		 * registered. */
		ioctl(fd, UFFDIO_UNREGISTER, &range);
	}
}

gboolean ferry_uffd_protect_ram(int fd, const FerryRam *ram, GError **error)
{
	for (guint i = 0; i < ram->n_blocks; i++)
		if (!protect_block(fd, &ram->blocks[i], error)) {
			release_blocks(fd, ram, i + 1);
			return FALSE;
		}
	return TRUE;
}

void ferry_uffd_release_ram(int fd, const FerryRam *ram)
{
	release_blocks(fd, ram, ram->n_blocks);
}

gboolean ferry_uffd_register(int fd, guint64 start, guint64 len, guint64 mode, guint64 ioctls)
{
	struct uffdio_register arg = {
		.range = { .start = start, .len = len },
		.mode = mode,
	};

	if (ioctl(fd, UFFDIO_REGISTER, &arg) < 0)
		return FALSE;
	if ((arg.ioctls & ioctls) == ioctls)
		return TRUE;
	ferry_uffd_unregister(fd, start, len);
	errno = EOPNOTSUPP;
	return FALSE;
}

void ferry_uffd_unregister(int fd, guint64 start, guint64 len)
{
	struct uffdio_range range = { .start = start, .len = len };

	/* Fails only for what is not registered. */
	ioctl(fd, UFFDIO_UNREGISTER, &range);
}

/* After a call of the kernel's that gives pages: whether to call it again for the rest. @moved is
 * its count, negative or 0 where nothing was done. EAGAIN without progress: the address space is
 * changing under it, as by mmap() elsewhere in the process. */
static gboolean go_on(int failed, gint64 moved, guint64 len, guint64 *done, int *failure)
{
	int why = failed ? errno : 0;

	if (moved > 0)
		*done += (guint64)moved;
	if (why == EAGAIN || why == EINTR)
		return *done < len;
	*failure = why;
	return FALSE;
}

guint64 ferry_uffd_continue(int fd, guint64 start, guint64 len, int *failure)
{
	struct uffdio_continue arg;
	guint64 done = 0;
	int failed;

	*failure = 0;
	do {
		arg = (struct uffdio_continue){ .range = { start + done, len - done } };
		failed = ioctl(fd, UFFDIO_CONTINUE, &arg);
	} while (go_on(failed, arg.mapped, len, &done, failure));
	return done;
}

guint64 ferry_uffd_copy(int fd, guint64 start, const void *from, guint64 len, int *failure)
{
	struct uffdio_copy arg;
	guint64 done = 0;
	int failed;

	*failure = 0;
	do {
		arg = (struct uffdio_copy){
			.dst = start + done,
			.src = (guintptr)from + done,
			.len = len - done,
		};
		failed = ioctl(fd, UFFDIO_COPY, &arg);
	} while (go_on(failed, arg.copy, len, &done, failure));
	return done;
}

void ferry_uffd_wake(int fd, guint64 start, guint64 len)
{
	struct uffdio_range range = { .start = start, .len = len };

	ioctl(fd, UFFDIO_WAKE, &range);
}

gboolean ferry_uffd_read_fault(int fd, guint64 *address, gint32 *thread)
{
	struct uffd_msg message;
	gssize n;

	do
		n = read(fd, &message, sizeof(message));
	while ((n < 0 && errno == EINTR) ||
	       (n == sizeof(message) && message.event != UFFD_EVENT_PAGEFAULT));
	if (n != sizeof(message))
		return FALSE;
	*address = message.arg.pagefault.address;
	*thread = (gint32)message.arg.pagefault.feat.ptid;
	return TRUE;
}
