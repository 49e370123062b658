/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/ram.h>

#include <string.h>

FerryRam *ferry_ram_new(void)
{
	return g_new0(FerryRam, 1);
}

void ferry_ram_free(FerryRam *ram)
{
	if (!ram)
		return;
	for (guint i = 0; i < ram->n_blocks; i++)
		g_free(ram->blocks[i].name);
	g_free(ram->blocks);
	g_free(ram);
}

static gboolean invalid(GError **error, const char *name, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

static gboolean invalid(GError **error, const char *name, const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "RAM block '%.*s': %s",
		    (int)FERRY_RAM_NAME_MAX, name, what);
	return FALSE;
}

static gboolean check_name(const FerryRam *ram, const char *name, GError **error)
{
	size_t len = strlen(name);

	if (len < 1 || len > FERRY_RAM_NAME_MAX)
		return invalid(error, name, "the name has %zu bytes; give it 1 to %u", len,
			       FERRY_RAM_NAME_MAX);
	if (ferry_ram_find(ram, name) >= 0)
		return invalid(error, name, "the name is taken; give each block one of its own");
	return TRUE;
}

/* Blocks that overlap would be tracked and sent twice, and the second copy could be the older one.
 */
static gboolean check_overlap(const FerryRam *ram, const char *name, const guint8 *host,
			      guint64 size, GError **error)
{
	for (guint i = 0; i < ram->n_blocks; i++) {
		const FerryRamBlock *other = &ram->blocks[i];

		if (host < other->host + other->size && other->host < host + size)
			return invalid(error, name, "its mapping overlaps that of block '%s'",
				       other->name);
	}
	return TRUE;
}

static gboolean check_numbers(const char *name, const guint8 *host, guint64 size, guint64 page_size,
			      int fd, guint64 fd_offset, GError **error)
{
	if (page_size < FERRY_PAGE_SIZE || (page_size & (page_size - 1)))
		return invalid(error, name,
			       "page size %" G_GUINT64_FORMAT
			       " is not a power of two of at least %u",
			       page_size, FERRY_PAGE_SIZE);
	if (!host || (guintptr)host % page_size)
		return invalid(error, name,
			       "address %p is not aligned to the page size %" G_GUINT64_FORMAT,
			       host, page_size);
	if (!size || size % page_size)
		return invalid(error, name,
			       "size %" G_GUINT64_FORMAT
			       " is not a multiple of the page size %" G_GUINT64_FORMAT,
			       size, page_size);
	if (size > G_MAXUINT64 - (guintptr)host)
		return invalid(error, name, "size %" G_GUINT64_FORMAT " exceeds the address space",
			       size);
	if (fd >= 0 && (fd_offset % page_size || fd_offset > G_MAXINT64 - size))
		return invalid(error, name,
			       "file offset %" G_GUINT64_FORMAT
			       " is not a multiple of the page size %" G_GUINT64_FORMAT
			       ", or too large",
			       fd_offset, page_size);
	return TRUE;
}

gboolean ferry_ram_add(FerryRam *ram, const char *name, void *host, guint64 size, guint64 page_size,
		       int fd, guint64 fd_offset, GError **error)
{
	FerryRamBlock block = {
		.host = host,
		.size = size,
		.page_size = page_size,
		.fd = fd >= 0 ? fd : -1,
		.fd_offset = fd >= 0 ? fd_offset : 0,
	};

	if (!check_name(ram, name, error) ||
	    !check_numbers(name, host, size, page_size, fd, fd_offset, error) ||
	    !check_overlap(ram, name, host, size, error))
		return FALSE;
	block.name = g_strdup(name);
	ram->blocks = g_renew(FerryRamBlock, ram->blocks, ram->n_blocks + 1);
	ram->blocks[ram->n_blocks++] = block;
	ram->total += size;
	return TRUE;
}

gboolean ferry_ram_set_shared(FerryRam *ram, const char *name, guint64 guest_address,
			      GError **error)
{
	int i = ferry_ram_find(ram, name);

	if (i < 0)
		return invalid(error, name, "there is no such block");
	if (ram->blocks[i].fd < 0)
		return invalid(error, name, "it has no file that another process could map");
	ram->blocks[i].shared = TRUE;
	ram->blocks[i].guest_address = guest_address;
	return TRUE;
}

int ferry_ram_find(const FerryRam *ram, const char *name)
{
	for (guint i = 0; i < ram->n_blocks; i++)
		if (strcmp(ram->blocks[i].name, name) == 0)
			return (int)i;
	return -1;
}
