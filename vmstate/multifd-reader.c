/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/multifd.h>

#include "multifd-decompress.h"

struct FerryMultifdReader {
	FerryReadFunc read;
	gpointer user;
	guint64 offset;
	gboolean chosen; /* a packet with pages came: the compression is known */
	FerryMultifdCompression compression;
	FerryMultifdDecompressor *decompressor; /* NULL: none yet, or none needed */
	guint8 *payload;                        /* FERRY_MULTIFD_PAYLOAD_MAX bytes; with it */
};

FerryMultifdReader *ferry_multifd_reader_new(FerryReadFunc read, gpointer user)
{
	FerryMultifdReader *reader = g_new0(FerryMultifdReader, 1);

	reader->read = read;
	reader->user = user;
	return reader;
}

void ferry_multifd_reader_free(FerryMultifdReader *reader)
{
	if (!reader)
		return;
	ferry_multifd_decompressor_free(reader->decompressor);
	g_free(reader->payload);
	g_free(reader);
}

guint64 ferry_multifd_reader_offset(const FerryMultifdReader *reader)
{
	return reader->offset;
}

/* Makes @iov what is left of it behind @done bytes; returns how many there are. */
static int skip(struct iovec *iov, int n, size_t done)
{
	int whole = 0;

	while (whole < n && done >= iov[whole].iov_len)
		done -= iov[whole++].iov_len;
	for (int i = whole; i < n; i++)
		iov[i - whole] = iov[i];
	if (whole < n) {
		iov[0].iov_base = (guint8 *)iov[0].iov_base + done;
		iov[0].iov_len -= done;
	}
	return n - whole;
}

/* Fills all of @iov, which it changes. FALSE without @error: the channel ended before the first
 * byte. */
static gboolean read_all(FerryMultifdReader *reader, struct iovec *iov, int n, GError **error)
{
	size_t done = 0;

	while (n) {
		gssize got = reader->read(reader->user, iov, n, error);

		if (got < 0)
			return FALSE;
		if (!got && done)
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
				    "multifd: the channel ended in the middle of a packet, at byte "
				    "%" G_GUINT64_FORMAT,
				    reader->offset);
		if (!got)
			return FALSE;
		done += (size_t)got;
		reader->offset += (guint64)got;
		n = skip(iov, n, (size_t)got);
	}
	return TRUE;
}

static gboolean choose(FerryMultifdReader *reader, const FerryMultifdPacket *packet, GError **error)
{
	if (reader->chosen && reader->compression != packet->compression) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: a packet with compression %s on a channel with %s",
			    ferry_multifd_compression_name(packet->compression),
			    ferry_multifd_compression_name(reader->compression));
		return FALSE;
	}
	if (!reader->chosen && packet->compression != FERRY_MULTIFD_COMPRESSION_NONE) {
		reader->decompressor = ferry_multifd_decompressor_new(packet->compression, error);
		if (!reader->decompressor)
			return FALSE;
		reader->payload = g_malloc(FERRY_MULTIFD_PAYLOAD_MAX);
	}
	reader->chosen = TRUE;
	reader->compression = packet->compression;
	return TRUE;
}

gboolean ferry_multifd_reader_next(FerryMultifdReader *reader, FerryMultifdPacket *packet,
				   GError **error)
{
	guint8 header[FERRY_MULTIFD_HEADER_SIZE];
	struct iovec iov = { header, sizeof(header) };

	return read_all(reader, &iov, 1, error) &&
	       ferry_multifd_get_packet(header, packet, error) &&
	       (!packet->pages || choose(reader, packet, error));
}

/* One piece of @iov for all pages that lie side by side. */
static int gather(const FerryMultifdPacket *packet, guint8 *const *pages, struct iovec *iov)
{
	int n = 0;

	for (guint i = 0; i < packet->pages; i++) {
		struct iovec *last = n ? &iov[n - 1] : NULL;

		if (last && (guint8 *)last->iov_base + last->iov_len == pages[i])
			last->iov_len += FERRY_PAGE_SIZE;
		else
			iov[n++] = (struct iovec){ pages[i], FERRY_PAGE_SIZE };
	}
	return n;
}

static gboolean ended(GError **error)
{
	if (error && !*error)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "multifd: the channel ended behind a packet's header");
	return FALSE;
}

gboolean ferry_multifd_reader_pages(FerryMultifdReader *reader, const FerryMultifdPacket *packet,
				    guint8 *const *pages, GError **error)
{
	struct iovec iov[FERRY_MULTIFD_PAGES] = { { reader->payload, packet->payload } };
	int n = reader->decompressor ? 1 : gather(packet, pages, iov);

	if (!read_all(reader, iov, n, error))
		return ended(error);
	return !reader->decompressor ||
	       ferry_multifd_decompress(reader->decompressor, reader->payload, packet->payload,
					pages, packet->pages, error);
}
