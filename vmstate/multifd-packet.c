/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/multifd.h>

#include <string.h>

#define FLAG_SYNC 1u
/* From here on up is the compression's number. */
#define COMPRESSION_SHIFT 1u

/* Where the fields of a header are. */
#define AT_FLAGS 8u
#define AT_ALLOCATED 12u
#define AT_PAGES 16u
#define AT_PAYLOAD 20u
#define AT_NUMBER 24u
#define AT_UNUSED 32u
#define UNUSED_SIZE 32u
#define AT_BLOCK 64u
#define BLOCK_SIZE 256u
#define AT_OFFSETS 320u
G_STATIC_ASSERT(AT_OFFSETS + 8 * FERRY_MULTIFD_PAGES == FERRY_MULTIFD_HEADER_SIZE);
G_STATIC_ASSERT(sizeof(((FerryMultifdPacket *)0)->block) == BLOCK_SIZE);

const char *ferry_multifd_compression_name(FerryMultifdCompression compression)
{
	static const char *const names[] = {
		[FERRY_MULTIFD_COMPRESSION_NONE] = "none",
		[FERRY_MULTIFD_COMPRESSION_ZLIB] = "zlib",
		[FERRY_MULTIFD_COMPRESSION_ZSTD] = "zstd",
	};

	G_STATIC_ASSERT(G_N_ELEMENTS(names) == FERRY_MULTIFD_COMPRESSION__N);
	return (guint)compression < G_N_ELEMENTS(names) ? names[compression] : "unknown";
}

static gboolean check_head(const guint8 *data, const char *what, GError **error)
{
	guint32 magic = ferry_load_be32(data), version = ferry_load_be32(data + 4);

	if (magic == FERRY_MULTIFD_MAGIC && version == FERRY_MULTIFD_VERSION)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "multifd: no %s where one must be: magic 0x%08x and version %u, not 0x%08x and "
		    "%u",
		    what, magic, version, FERRY_MULTIFD_MAGIC, FERRY_MULTIFD_VERSION);
	return FALSE;
}

void ferry_multifd_put_init(guint8 *out, const FerryMultifdInit *init)
{
	memset(out, 0, FERRY_MULTIFD_INIT_SIZE);
	ferry_store_be32(out, FERRY_MULTIFD_MAGIC);
	ferry_store_be32(out + 4, FERRY_MULTIFD_VERSION);
	memcpy(out + 8, init->uuid, FERRY_MULTIFD_UUID_SIZE);
	out[8 + FERRY_MULTIFD_UUID_SIZE] = init->channel;
}

gboolean ferry_multifd_get_init(const guint8 *data, FerryMultifdInit *init, GError **error)
{
	guint8 channel = data[8 + FERRY_MULTIFD_UUID_SIZE];

	if (!check_head(data, "init packet", error))
		return FALSE;
	if (channel >= FERRY_MULTIFD_CHANNELS_MAX) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: channel %u; there are at most %u", channel,
			    FERRY_MULTIFD_CHANNELS_MAX);
		return FALSE;
	}
	memcpy(init->uuid, data + 8, FERRY_MULTIFD_UUID_SIZE);
	init->channel = channel;
	return TRUE;
}

void ferry_multifd_put_packet(guint8 *out, const FerryMultifdPacket *packet)
{
	guint32 flags = (guint32)packet->compression << COMPRESSION_SHIFT;

	memset(out, 0, FERRY_MULTIFD_HEADER_SIZE);
	ferry_store_be32(out, FERRY_MULTIFD_MAGIC);
	ferry_store_be32(out + 4, FERRY_MULTIFD_VERSION);
	ferry_store_be32(out + AT_FLAGS, flags | (packet->sync ? FLAG_SYNC : 0));
	ferry_store_be32(out + AT_ALLOCATED, FERRY_MULTIFD_PAGES);
	ferry_store_be32(out + AT_PAGES, packet->pages);
	ferry_store_be32(out + AT_PAYLOAD, packet->payload);
	ferry_store_be64(out + AT_NUMBER, packet->number);
	g_strlcpy((char *)out + AT_BLOCK, packet->block, BLOCK_SIZE);
	for (guint i = 0; i < packet->pages; i++)
		ferry_store_be64(out + AT_OFFSETS + (size_t)8 * i, packet->offsets[i]);
}

/* Fields that later QEMUs fill mean something that would be missed. */
static gboolean check_unknown(const guint8 *data, guint32 flags, GError **error)
{
	guint32 compression = flags >> COMPRESSION_SHIFT;

	if (compression >= FERRY_MULTIFD_COMPRESSION__N) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "multifd: flags 0x%x are not known here: set multifd-compression to "
			    "none, zlib or zstd at the source",
			    flags);
		return FALSE;
	}
	for (guint i = 0; i < UNUSED_SIZE; i++) {
		if (!data[AT_UNUSED + i])
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "multifd: a packet says more than pages (byte %u is 0x%02x): set "
			    "zero-page-detection to legacy at the source",
			    AT_UNUSED + i, data[AT_UNUSED + i]);
		return FALSE;
	}
	return TRUE;
}

static gboolean check_numbers(const FerryMultifdPacket *packet, guint32 allocated, GError **error)
{
	if (allocated > FERRY_MULTIFD_PAGES || packet->pages > allocated)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: a packet of %u pages of %u; there are at most %u",
			    packet->pages, allocated, FERRY_MULTIFD_PAGES);
	else if (packet->pages && packet->compression == FERRY_MULTIFD_COMPRESSION_NONE &&
		 packet->payload != packet->pages * FERRY_PAGE_SIZE)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: %u bytes follow a packet of %u pages of %u bytes",
			    packet->payload, packet->pages, FERRY_PAGE_SIZE);
	else if (packet->pages && (!packet->payload || packet->payload > FERRY_MULTIFD_PAYLOAD_MAX))
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: %u bytes of compressed pages follow; there are 1 to %u",
			    packet->payload, FERRY_MULTIFD_PAYLOAD_MAX);
	else
		return TRUE;
	return FALSE;
}

/* The block's name, and the offsets as far as they can be judged without it. */
static gboolean get_pages(const guint8 *data, FerryMultifdPacket *packet, GError **error)
{
	memcpy(packet->block, data + AT_BLOCK, BLOCK_SIZE);
	if (!packet->block[0] || packet->block[BLOCK_SIZE - 1]) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: the name of the RAM block %s",
			    packet->block[0] ? "is not terminated" : "is empty");
		return FALSE;
	}
	for (guint i = 0; i < packet->pages; i++) {
		packet->offsets[i] = ferry_load_be64(data + AT_OFFSETS + (size_t)8 * i);
		if (packet->offsets[i] % FERRY_PAGE_SIZE == 0)
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: a page at offset 0x%" G_GINT64_MODIFIER
			    "x of block '%s', which is none of a page",
			    packet->offsets[i], packet->block);
		return FALSE;
	}
	return TRUE;
}

gboolean ferry_multifd_get_packet(const guint8 *data, FerryMultifdPacket *packet, GError **error)
{
	guint32 flags = ferry_load_be32(data + AT_FLAGS);
	guint32 allocated = ferry_load_be32(data + AT_ALLOCATED);
	FerryMultifdPacket in = {
		.sync = flags & FLAG_SYNC,
		.compression = flags >> COMPRESSION_SHIFT,
		.pages = ferry_load_be32(data + AT_PAGES),
		.payload = ferry_load_be32(data + AT_PAYLOAD),
		.number = ferry_load_be64(data + AT_NUMBER),
	};

	if (!check_head(data, "packet", error) || !check_unknown(data, flags, error) ||
	    !check_numbers(&in, allocated, error) || (in.pages && !get_pages(data, &in, error)))
		return FALSE;
	/* A QEMU leaves there what its last packet had. */
	if (!in.pages)
		in.payload = in.compression = 0;
	*packet = in;
	return TRUE;
}

gboolean ferry_multifd_packet_fits(const FerryMultifdPacket *packet, guint64 size, GError **error)
{
	for (guint i = 0; i < packet->pages; i++) {
		if (packet->offsets[i] < size && FERRY_PAGE_SIZE <= size - packet->offsets[i])
			continue;
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: a page at offset 0x%" G_GINT64_MODIFIER
			    "x of block '%s', which has %" G_GUINT64_FORMAT " bytes",
			    packet->offsets[i], packet->block, size);
		return FALSE;
	}
	return TRUE;
}
