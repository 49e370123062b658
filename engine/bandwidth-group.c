/* SPDX-License-Identifier: BSD-2-Clause */
#include "bandwidth-group.h"

#include <errno.h>
#include <fcntl.h>
#include <ferry/error.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "ferrygrp"
#define VERSION 1u
#define LOOK_US (50 * G_TIME_SPAN_MILLISECOND)
#define SILENT_US (500 * G_TIME_SPAN_MILLISECOND)

/* The file, in this host's byte order: one of another order has another version. */
typedef struct {
	char magic[8];
	guint32 version;
	guint32 slots;
	guint8 reserved[48];
} Head;
typedef struct {
	guint64 beat;   /* changes while its owner sends; 0: it has not begun */
	guint64 demand; /* bytes a second by its own limit; 0: without limit */
	guint64 budget; /* of the group, as its owner holds it; 0: it holds none */
	guint64 reserved;
} Slot;
typedef struct {
	Head head;
	Slot slots[FERRY_BANDWIDTH_GROUP_MAX];
} Content;
G_STATIC_ASSERT(sizeof(Head) == 64 && sizeof(Slot) == 32);

/* Another member, as it was seen. */
typedef struct {
	guint64 beat;
	gint64 since_us; /* when the beat changed */
} Seen;

struct FerryBandwidthGroup {
	int fd;
	guint index; /* of the slot */
	Slot slot;   /* as it was written */
	gint64 looked_us;
	guint64 rate;
	guint members; /* 0: not looked yet */
	Seen seen[FERRY_BANDWIDTH_GROUP_MAX];
};

/* ---- the file ---- */

static off_t place(guint index)
{
	return G_STRUCT_OFFSET(Content, slots) + index * (off_t)sizeof(Slot);
}

static gboolean failed(const char *what, const char *path, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "bandwidth-group: cannot %s %s: %s", what,
		    path, g_strerror(errno));
	return FALSE;
}

static gboolean write_new(int fd)
{
	Content content = { .head = { .version = VERSION, .slots = FERRY_BANDWIDTH_GROUP_MAX } };

	memcpy(content.head.magic, MAGIC, sizeof(content.head.magic));
	return pwrite(fd, &content, sizeof(content), 0) == sizeof(content);
}

/* It appears under its name when it is whole, or not at all. That somebody else was faster is all
 * the same. */
static gboolean create(const char *path, GError **error)
{
	g_autofree char *temporary = g_strconcat(path, ".XXXXXX", NULL);
	int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0600);
	gboolean ok;

	if (fd < 0)
		return failed("create", path, error);
	ok = write_new(fd) && (link(temporary, path) == 0 || errno == EEXIST);
	if (!ok)
		failed("create", path, error);
	close(fd);
	g_unlink(temporary);
	return ok;
}

/* Of one that exists: where everybody may write, as in /dev/shm, the kernel keeps O_CREAT from
 * opening what is somebody else's. No device is touched, and no FIFO waited for. */
static int open_file(const char *path)
{
	return open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
}

static gboolean check_file(int fd, const char *path, GError **error)
{
	struct stat status;
	Head head;

	if (fstat(fd, &status))
		return failed("look at", path, error);
	if (S_ISREG(status.st_mode) && status.st_size == sizeof(Content) &&
	    pread(fd, &head, sizeof(head), 0) == sizeof(head) &&
	    memcmp(head.magic, MAGIC, sizeof(head.magic)) == 0 && head.version == VERSION &&
	    head.slots == FERRY_BANDWIDTH_GROUP_MAX)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "bandwidth-group: %s is no file of a group of this release: name another, or "
		    "remove it while nobody migrates",
		    path);
	return FALSE;
}

static int open_group(const char *path, GError **error)
{
	int fd;

	if (!g_path_is_absolute(path)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "bandwidth-group: '%s' is not an absolute path", path);
		return -1;
	}
	fd = open_file(path);
	if (fd < 0 && errno == ENOENT) {
		if (!create(path, error))
			return -1;
		fd = open_file(path);
	}
	if (fd < 0) {
		failed("open", path, error);
		return -1;
	}
	if (check_file(fd, path, error))
		return fd;
	close(fd);
	return -1;
}

/* ---- members ---- */

static gboolean lock_slot(int fd, guint index)
{
	struct flock lock = { F_WRLCK, SEEK_SET, place(index), 1, 0 };

	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static gboolean is_locked(int fd, guint index)
{
	struct flock lock = { F_WRLCK, SEEK_SET, place(index), 1, 0 };

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static gboolean write_slot(FerryBandwidthGroup *group)
{
	const Slot slot = group->slot;

	return pwrite(group->fd, &slot, sizeof(slot), place(group->index)) == sizeof(slot);
}

static gboolean take_slot(FerryBandwidthGroup *group, const char *path, GError **error)
{
	for (; group->index < FERRY_BANDWIDTH_GROUP_MAX; group->index++) {
		if (lock_slot(group->fd, group->index))
			/* What the last owner claimed is not claimed any more. */
			return write_slot(group) || failed("write", path, error);
		if (errno != EAGAIN && errno != EACCES)
			return failed("lock", path, error);
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
		    "bandwidth-group: %s has %u members already: wait until one of them is done",
		    path, FERRY_BANDWIDTH_GROUP_MAX);
	return FALSE;
}

FerryBandwidthGroup *ferry_bandwidth_group_join(const char *path, GError **error)
{
	int fd = open_group(path, error);
	FerryBandwidthGroup *group;

	if (fd < 0)
		return NULL;
	group = g_new0(FerryBandwidthGroup, 1);
	group->fd = fd;
	if (take_slot(group, path, error))
		return group;
	ferry_bandwidth_group_leave(group);
	return NULL;
}

void ferry_bandwidth_group_leave(FerryBandwidthGroup *group)
{
	if (!group)
		return;
	close(group->fd);
	g_free(group);
}

/* ---- shares ---- */

guint64 ferry_bandwidth_group_share(guint64 budget, const guint64 *demands, guint n)
{
	guint64 left = budget, level = budget / n, before;
	guint equal;

	/* Whoever wants less than the level is served, and raises it for the others. */
	do {
		before = level;
		left = budget;
		equal = 0;
		for (guint i = 0; i < n; i++) {
			if (demands[i] && demands[i] <= level)
				left -= demands[i];
			else
				equal++;
		}
		level = equal ? left / equal : G_MAXUINT64;
	} while (level > before && equal);
	return MAX(demands[0] ? MIN(demands[0], level) : level, 1);
}

/* Whether the other member of slot @index lives and sends. */
static gboolean is_sending(FerryBandwidthGroup *group, guint index, const Slot *slot, gint64 now_us)
{
	Seen *seen = &group->seen[index];

	if (!slot->beat || !is_locked(group->fd, index))
		return FALSE;
	if (seen->beat != slot->beat)
		*seen = (Seen){ slot->beat, now_us };
	return now_us - seen->since_us < SILENT_US;
}

static guint64 smaller(guint64 a, guint64 b)
{
	return a && b ? MIN(a, b) : MAX(a, b);
}

/* Says what this member wants, and finds out what it gets. Of a file that was cut short the rest
 * reads as empty slots, until their owners have written them again. */
static void look(FerryBandwidthGroup *group, gint64 now_us, guint64 own, guint64 budget)
{
	guint64 demands[FERRY_BANDWIDTH_GROUP_MAX] = { own };
	Content content = { 0 };
	guint n = 1;

	group->slot = (Slot){ group->slot.beat + 1, own, budget, 0 };
	group->looked_us = now_us;
	/* Where it cannot be written or read, the others are not known: they are taken to be as
	 * they were. */
	if (!write_slot(group) || pread(group->fd, &content, sizeof(content), 0) < 0) {
		group->rate = smaller(group->rate, own);
		return;
	}
	for (guint i = 0; i < FERRY_BANDWIDTH_GROUP_MAX; i++) {
		const Slot *slot = &content.slots[i];

		if (i == group->index || !is_sending(group, i, slot, now_us))
			continue;
		demands[n++] = slot->demand;
		budget = smaller(budget, slot->budget);
	}
	group->members = n;
	group->rate = budget ? ferry_bandwidth_group_share(budget, demands, n) : own;
}

guint64 ferry_bandwidth_group_rate(FerryBandwidthGroup *group, gint64 now_us, guint64 own,
				   guint64 budget)
{
	if (!group->members || now_us - group->looked_us >= LOOK_US || own != group->slot.demand ||
	    budget != group->slot.budget)
		look(group, now_us, own, budget);
	return group->rate;
}

guint ferry_bandwidth_group_members(const FerryBandwidthGroup *group)
{
	return group->members;
}
