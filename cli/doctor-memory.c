/* SPDX-License-Identifier: BSD-2-Clause */
#include "doctor.h"
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <ferry/dirty.h>

/* In linux/userfaultfd.h since 5.13; Debian 12's headers are 6.1. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define USERFAULTFD_REMEDY                                                                         \
	"run as root, or with CAP_SYS_PTRACE, or open /dev/userfaultfd to the user, or set "       \
	"vm.unprivileged_userfaultfd=1 with sysctl"

/* ---- dirty-page tracking: each source tracks a page for real ---- */

static gboolean sees_write(FerryDirtySource *source, FerryRam *ram, GError **error)
{
	guint64 bits = 0;
	gboolean ok = source->ops->start(source, ram, error);

	if (!ok)
		return FALSE;
	*(volatile guint8 *)ram->blocks[0].host = 1;
	ok = source->ops->collect(source, 0, &bits, error);
	source->ops->stop(source);
	if (ok && !(bits & 1)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "it missed a write");
		ok = FALSE;
	}
	return ok;
}

/* The probe's only writer is this thread. */
static gboolean hold_nothing(gpointer user, GError **error)
{
	return TRUE;
}

static void release_nothing(gpointer user)
{
}

static FerryDirtySource *make_dirty_source(const char *name, GError **error)
{
	static const FerryHoldCallbacks callbacks = { hold_nothing, release_nothing };

	return g_str_equal(name, "soft-dirty")
		       ? ferry_dirty_source_soft_dirty(&callbacks, NULL, error)
		       : ferry_dirty_source_new(name, error);
}

static gboolean try_dirty_source(const char *name, FerryRam *ram, GError **error)
{
	g_autoptr(FerryDirtySource) source = make_dirty_source(name, error);

	return source && sees_write(source, ram, error);
}

/* What it costs to know that a page was written; docs of ferry/dirty.h. */
static const struct {
	const char *name;
	const char *cost;
	gboolean good;
} dirty_sources[] = {
	{ "wp-async", "about 1 us for a page's first write in a round", TRUE },
	{ "soft-dirty", "about 25 ms for a GiB in each round, with the guest held", FALSE },
	{ "wp-fault", "about 50 us for a page's first write in a round", FALSE },
};

static void check_dirty_sources(FerryDoctor *doctor)
{
	guint8 *page = mmap(NULL, FERRY_PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_autoptr(FerryRam) ram = ferry_ram_new();
	guint working = 0;

	if (page == MAP_FAILED ||
	    !ferry_ram_add(ram, "probe", page, FERRY_PAGE_SIZE, FERRY_PAGE_SIZE, -1, 0, NULL))
		return;
	for (guint i = 0; i < G_N_ELEMENTS(dirty_sources); i++) {
		g_autoptr(GError) error = NULL;

		if (try_dirty_source(dirty_sources[i].name, ram, &error)) {
			working++;
			ferry_doctor_add(doctor, dirty_sources[i].name, FERRY_CHECK_OK,
					 g_strdup(dirty_sources[i].cost), NULL);
		} else {
			ferry_doctor_add(doctor, dirty_sources[i].name, FERRY_CHECK_MISSING,
					 g_strdup(error->message), NULL);
		}
	}
	ferry_doctor_add(
		doctor, "dirty tracking", working ? FERRY_CHECK_OK : FERRY_CHECK_MISSING,
		g_strdup_printf("%u of %zu ways work", working, G_N_ELEMENTS(dirty_sources)),
		working ? NULL : USERFAULTFD_REMEDY)
		->required = TRUE;
	munmap(page, FERRY_PAGE_SIZE);
}

/* ---- userfaultfd ---- */

/* A userfaultfd, -1 where none is to be had; *@how tells by which door. */
static int open_userfaultfd(const char **how)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC), device;

	*how = "by system call";
	if (fd >= 0)
		return fd;
	device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	*how = "by /dev/userfaultfd";
	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
		close(device);
	}
	if (fd >= 0)
		return fd;
	*how = "for faults of this process alone, not for those of KVM";
	return syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
}

static void check_userfaultfd(FerryDoctor *doctor)
{
	struct uffdio_api api = { .api = UFFD_API };
	const char *how;
	int fd = open_userfaultfd(&how);
	gboolean minor;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api)) {
		ferry_doctor_add(doctor, "userfaultfd", FERRY_CHECK_MISSING,
				 g_strdup(g_strerror(errno)), USERFAULTFD_REMEDY);
	} else {
		minor = (api.features & UFFD_FEATURE_MINOR_SHMEM) != 0;
		ferry_doctor_add(doctor, "userfaultfd",
				 g_str_has_prefix(how, "for") ? FERRY_CHECK_WARN : FERRY_CHECK_OK,
				 g_strdup(how),
				 g_str_has_prefix(how, "for") ? USERFAULTFD_REMEDY : NULL);
		ferry_doctor_add(
			doctor, "uffd minor", minor ? FERRY_CHECK_OK : FERRY_CHECK_MISSING,
			g_strdup(minor ? "postcopy can land in shared memory without a copy"
				       : "no minor faults on shared memory"),
			minor ? NULL : "Linux 5.14 or newer");
	}
	if (fd >= 0)
		close(fd);
}

/* ---- locked memory and huge pages ---- */

#define CAP_IPC_LOCK_BIT 14

static gboolean has_ipc_lock(void)
{
	g_autofree char *status = NULL;
	const char *line;

	if (!g_file_get_contents("/proc/self/status", &status, NULL, NULL))
		return FALSE;
	line = strstr(status, "\nCapEff:\t");
	return line &&
	       (g_ascii_strtoull(line + strlen("\nCapEff:\t"), NULL, 16) >> CAP_IPC_LOCK_BIT & 1);
}

static void check_memlock(FerryDoctor *doctor)
{
	struct rlimit limit = { 0, 0 };
	g_autofree char *bytes = NULL;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	bytes = ferry_cli_format_bytes(limit.rlim_cur);
	if (has_ipc_lock())
		ferry_doctor_add(doctor, "locked memory", FERRY_CHECK_OK,
				 g_strdup("not limited (CAP_IPC_LOCK)"), NULL);
	else if (limit.rlim_cur == RLIM_INFINITY)
		ferry_doctor_add(doctor, "locked memory", FERRY_CHECK_OK, g_strdup("not limited"),
				 NULL);
	else
		ferry_doctor_add(
			doctor, "locked memory", FERRY_CHECK_WARN,
			g_strdup_printf("%s (RLIMIT_MEMLOCK)", bytes),
			"RDMA locks guest memory: raise memlock in /etc/security/limits.conf or "
			"LimitMEMLOCK= in the unit to the size of the largest guest");
}

/* The word in brackets of a line such as "always [madvise] never"; NULL if there is none. */
static char *chosen(const char *line)
{
	const char *open = line ? strchr(line, '[') : NULL;
	const char *end = open ? strchr(open, ']') : NULL;

	return end ? g_strndup(open + 1, end - open - 1) : NULL;
}

static void check_huge_setting(FerryDoctor *doctor, const char *name, const char *file,
			       const char *good)
{
	g_autofree char *path = g_build_filename("/sys/kernel/mm/transparent_hugepage", file, NULL);
	g_autofree char *line = ferry_doctor_read_line(path);
	g_autofree char *value = chosen(line);
	g_autofree char *remedy = g_strdup_printf(
		"echo %s >%s: fewer page faults, faster registration", good, path);
	gboolean off = !value || g_str_equal(value, "never") || g_str_equal(value, "deny");

	ferry_doctor_add(doctor, name, off ? FERRY_CHECK_WARN : FERRY_CHECK_OK,
			 g_strdup(value ? value : "not in this kernel"),
			 off && value ? remedy : NULL);
}

static void check_hugetlb(FerryDoctor *doctor)
{
	g_autofree char *line = ferry_doctor_read_line(
		"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
	gint64 pages = line ? g_ascii_strtoll(line, NULL, 10) : 0;

	ferry_doctor_add(doctor, "hugetlb", pages ? FERRY_CHECK_OK : FERRY_CHECK_WARN,
			 g_strdup_printf("%" G_GINT64_FORMAT " free pages of 2 MiB", pages),
			 pages ? NULL
			       : "only for --backing hugetlb: sysctl vm.nr_hugepages=N reserves N");
}

void ferry_doctor_memory(FerryDoctor *doctor)
{
	check_dirty_sources(doctor);
	check_userfaultfd(doctor);
	check_memlock(doctor);
	check_huge_setting(doctor, "THP", "enabled", "madvise");
	check_huge_setting(doctor, "THP of memfd", "shmem_enabled", "advise");
	check_hugetlb(doctor);
}
