/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "capture.h"

static void clear_block(gpointer data)
{
	FerryCaptureBlock *block = data;

	if (block->host)
		munmap(block->host, block->size);
	if (block->fd >= 0)
		close(block->fd);
	g_free(block->written);
	g_free(block->file);
	g_free(block->name);
}

static FerryCapture *new_capture(const char *directory)
{
	FerryCapture *capture = g_new0(FerryCapture, 1);

	capture->directory = g_strdup(directory);
	capture->blocks = g_array_new(FALSE, FALSE, sizeof(FerryCaptureBlock));
	g_array_set_clear_func(capture->blocks, clear_block);
	return capture;
}

void ferry_capture_free(FerryCapture *capture)
{
	if (!capture)
		return;
	g_clear_pointer(&capture->description, g_bytes_unref);
	g_clear_pointer(&capture->devices, g_bytes_unref);
	g_array_unref(capture->blocks);
	ferry_stream_configuration_clear(&capture->config);
	g_free(capture->directory);
	g_free(capture);
}

static gboolean io_failed(GError **error, const char *what, const char *directory, const char *file)
{
	int reason = errno;

	g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "cannot %s %s%s%s: %s", what, directory,
		    file ? "/" : "", file ? file : "", g_strerror(reason));
	return FALSE;
}

FerryCapture *ferry_capture_create(const char *directory, GError **error)
{
	g_autoptr(GDir) list = NULL;

	/* Guest memory holds secrets: for the owner alone. */
	if (g_mkdir(directory, 0700) < 0 && errno != EEXIST)
		return io_failed(error, "make the directory", directory, NULL), NULL;
	list = g_dir_open(directory, 0, error);
	if (!list)
		return NULL;
	if (g_dir_read_name(list)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "%s is not empty: give a new directory, or empty this one", directory);
		return NULL;
	}
	return new_capture(directory);
}

/* @flags: O_RDONLY, or O_RDWR | O_CREAT | O_EXCL, which gives the file its size. */
static gboolean map_block(const FerryCapture *capture, FerryCaptureBlock *block, int flags,
			  GError **error)
{
	g_autofree char *path = g_build_filename(capture->directory, block->file, NULL);
	gboolean writable = flags != O_RDONLY;
	struct stat st;
	void *host;

	block->fd = open(path, flags | O_CLOEXEC, 0600);
	if (block->fd < 0)
		return io_failed(error, "open", capture->directory, block->file);
	if (block->size > G_MAXINT64 || (writable && ftruncate(block->fd, block->size) < 0))
		return io_failed(error, "give its size to", capture->directory, block->file);
	if (fstat(block->fd, &st) < 0)
		return io_failed(error, "look at", capture->directory, block->file);
	if ((guint64)st.st_size != block->size) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			    "%s/%s has %" G_GINT64_FORMAT " bytes, map.json says %" G_GUINT64_FORMAT
			    ": the directory is damaged",
			    capture->directory, block->file, (gint64)st.st_size, block->size);
		return FALSE;
	}
	host = mmap(NULL, block->size, PROT_READ | (writable ? PROT_WRITE : 0),
		    MAP_SHARED | MAP_NORESERVE, block->fd, 0);
	if (host == MAP_FAILED)
		return io_failed(error, "map", capture->directory, block->file);
	block->host = host;
	return TRUE;
}

gboolean ferry_capture_add_blocks(FerryCapture *capture, const GArray *blocks, GError **error)
{
	for (guint i = 0; i < blocks->len; i++) {
		const FerryStreamRamBlock *in = &g_array_index(blocks, FerryStreamRamBlock, i);
		FerryCaptureBlock block = { .size = in->size, .fd = -1 };
		FerryCaptureBlock *added;

		if (!g_utf8_validate(in->name, -1, NULL)) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
				    "the name of RAM block %u is not UTF-8", i);
			return FALSE;
		}
		block.name = g_strdup(in->name);
		block.file = g_strdup_printf("ram-%u.img", i);
		g_array_append_val(capture->blocks, block);
		added = &g_array_index(capture->blocks, FerryCaptureBlock, i);
		if (!map_block(capture, added, O_RDWR | O_CREAT | O_EXCL, error))
			return FALSE;
		added->written = g_try_malloc0(added->size / FERRY_PAGE_SIZE / 8 + 1);
		if (!added->written)
			return errno = ENOMEM, io_failed(error, "track the pages of",
							 capture->directory, added->file);
	}
	return TRUE;
}

void ferry_capture_zero_page(FerryCaptureBlock *block, guint64 offset)
{
	guint64 page = offset / FERRY_PAGE_SIZE;

	if (__atomic_load_n(&block->written[page / 8], __ATOMIC_RELAXED) & 1u << page % 8)
		memset(block->host + offset, 0, FERRY_PAGE_SIZE);
}

guint8 *ferry_capture_page(FerryCaptureBlock *block, guint64 offset)
{
	guint64 page = offset / FERRY_PAGE_SIZE;

	/* Which page was written when is the caller's to order; only the byte's other bits must not
	 * get lost. */
	__atomic_fetch_or(&block->written[page / 8], 1u << page % 8, __ATOMIC_RELAXED);
	return block->host + offset;
}

gboolean ferry_capture_write_page(const FerryCapture *capture, FerryCaptureBlock *block,
				  guint64 offset, const void *page, GError **error)
{
	gssize n = pwrite(block->fd, page, FERRY_PAGE_SIZE, offset);

	if (n >= 0 && n < (gssize)FERRY_PAGE_SIZE)
		errno = ENOSPC;
	if (n != (gssize)FERRY_PAGE_SIZE)
		return io_failed(error, "write", capture->directory, block->file);
	ferry_capture_page(block, offset);
	return TRUE;
}

static gboolean write_file(const FerryCapture *capture, const char *file, const void *data,
			   gsize len, GError **error)
{
	g_autofree char *path = g_build_filename(capture->directory, file, NULL);

	return g_file_set_contents_full(
		path, data, len, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
		error);
}

static gboolean sync_directory(const FerryCapture *capture, GError **error)
{
	int fd = open(capture->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	gboolean ok = fd >= 0 && fsync(fd) == 0;

	if (!ok)
		io_failed(error, "sync", capture->directory, NULL);
	if (fd >= 0)
		close(fd);
	return ok;
}

gboolean ferry_capture_finish(FerryCapture *capture, GError **error)
{
	g_autofree char *map = ferry_capture_map_to_json(capture);
	gsize len;
	const void *data;

	for (guint i = 0; i < capture->blocks->len; i++) {
		FerryCaptureBlock *block = &g_array_index(capture->blocks, FerryCaptureBlock, i);

		if (msync(block->host, block->size, MS_SYNC) < 0 || fsync(block->fd) < 0)
			return io_failed(error, "write", capture->directory, block->file);
	}
	data = g_bytes_get_data(capture->devices, &len);
	if (!write_file(capture, "devices.bin", data, len, error))
		return FALSE;
	if (capture->description) {
		data = g_bytes_get_data(capture->description, &len);
		if (!write_file(capture, "vmdesc.json", data, len, error))
			return FALSE;
	}
	return sync_directory(capture, error) &&
	       write_file(capture, "map.json", map, strlen(map), error) &&
	       sync_directory(capture, error);
}

static GBytes *read_file(const FerryCapture *capture, const char *file, guint64 size,
			 GError **error)
{
	g_autofree char *path = g_build_filename(capture->directory, file, NULL);
	g_autofree char *data = NULL;
	gsize len;

	if (!g_file_get_contents(path, &data, &len, error))
		return NULL;
	if (len != size) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			    "%s has %zu bytes, map.json says %" G_GUINT64_FORMAT
			    ": the directory is damaged",
			    path, len, size);
		return NULL;
	}
	return g_bytes_new_take(g_steal_pointer(&data), len);
}

static gboolean open_files(FerryCapture *capture, const guint64 sizes[2], const char *checksum,
			   GError **error)
{
	g_autofree char *actual = NULL;

	for (guint i = 0; i < capture->blocks->len; i++)
		if (!map_block(capture, &g_array_index(capture->blocks, FerryCaptureBlock, i),
			       O_RDONLY, error))
			return FALSE;
	capture->devices = read_file(capture, "devices.bin", sizes[0], error);
	if (!capture->devices)
		return FALSE;
	actual = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, capture->devices);
	if (!g_str_equal(actual, checksum)) {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			"%s/devices.bin is not what was received: its SHA-256 is %s, map.json says %s",
			capture->directory, actual, checksum);
		return FALSE;
	}
	if (sizes[1])
		capture->description = read_file(capture, "vmdesc.json", sizes[1], error);
	return !sizes[1] || capture->description;
}

FerryCapture *ferry_capture_open(const char *directory, GError **error)
{
	g_autoptr(FerryCapture) capture = new_capture(directory);
	g_autofree char *path = g_build_filename(directory, "map.json", NULL);
	g_autofree char *json = NULL, *checksum = NULL;
	guint64 sizes[2] = { 0 };
	gsize len;

	if (!g_file_get_contents(path, &json, &len, error)) {
		g_prefix_error(error, "no finished capture: ");
		return NULL;
	}
	if (!ferry_capture_map_from_json(capture, json, len, sizes, &checksum, error)) {
		g_prefix_error(error, "%s: ", path);
		return NULL;
	}
	return open_files(capture, sizes, checksum, error) ? g_steal_pointer(&capture) : NULL;
}

static void put_subsection(GByteArray *out, const char *name)
{
	ferry_put_u8(out, FERRY_SECTION_SUBSECTION);
	ferry_put_u8(out, strlen(name));
	g_byte_array_append(out, (const guint8 *)name, strlen(name));
	ferry_put_be32(out, 1);
}

FerryRam *ferry_capture_ram(const FerryCapture *capture, GError **error)
{
	g_autoptr(FerryRam) ram = ferry_ram_new();

	for (guint i = 0; i < capture->blocks->len; i++) {
		const FerryCaptureBlock *block = &g_array_index(capture->blocks, FerryCaptureBlock,
								i);

		if (!ferry_ram_add(ram, block->name, block->host, block->size, FERRY_PAGE_SIZE,
				   block->fd, 0, error))
			return NULL;
	}
	return g_steal_pointer(&ram);
}

void ferry_capture_put_begin(const FerryCapture *capture, GByteArray *out)
{
	const FerryStreamConfiguration *config = &capture->config;
	g_autoptr(GPtrArray) names = g_ptr_array_new();

	ferry_stream_put_header(out);
	if (!config->machine)
		return;
	for (guint i = 0; i < config->capabilities->len; i++)
		g_ptr_array_add(names, config->capabilities->pdata[i]);
	g_ptr_array_add(names, NULL);
	ferry_stream_put_configuration(out, config->machine, (const char *const *)names->pdata);
	if (config->has_uuid) {
		put_subsection(out, "configuration/uuid");
		g_byte_array_append(out, config->uuid, sizeof(config->uuid));
	}
	if (config->target_page_bits) {
		put_subsection(out, "configuration/target-page-bits");
		ferry_put_be32(out, config->target_page_bits);
	}
}
