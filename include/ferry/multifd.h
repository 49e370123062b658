/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/settings.h>
#include <ferry/stream.h>

G_BEGIN_DECLS

/*
 * QEMU's multifd: pages over connections of their own beside the migration stream, in packets of up
 * to 128 pages of one RAM block. A channel begins with an init packet; then come packets, each a
 * header of fixed size and the pages, or what they were compressed to. A packet with SYNC ends what
 * the channel brings for a section of the stream: a reader holds the channel there until the stream
 * reached the section's end and all channels synced, since the same page may come on another one
 * next. There is no last packet: a channel just ends. docs/protocol.md 3.7 has the bytes.
 */
#define FERRY_MULTIFD_MAGIC 0x11223344u /* of init packets and headers */
#define FERRY_MULTIFD_VERSION 1u
#define FERRY_MULTIFD_INIT_SIZE 64u
#define FERRY_MULTIFD_HEADER_SIZE 1344u
#define FERRY_MULTIFD_PAGES 128u /* of a packet, at most */
#define FERRY_MULTIFD_UUID_SIZE 16u
#define FERRY_MULTIFD_CHANNELS_MAX 16u
/* Bytes that may follow a header: what does not compress grows a little. */
#define FERRY_MULTIFD_PAYLOAD_MAX (2u * FERRY_MULTIFD_PAGES * FERRY_PAGE_SIZE)

/* The name that "multifd-compression" has for it; "unknown" for any other number. Static. */
const char *ferry_multifd_compression_name(FerryMultifdCompression compression);

/* ---- init packets and headers: pure functions ---- */

typedef struct {
	/* a QEMU's: of the guest (-uuid), or zeros; between Ferry peers the session's nonce */
	guint8 uuid[FERRY_MULTIFD_UUID_SIZE];
	guint8 channel; /* from 0; each once */
} FerryMultifdInit;

/* Fills FERRY_MULTIFD_INIT_SIZE bytes. */
void ferry_multifd_put_init(guint8 *out, const FerryMultifdInit *init);
/* @data has FERRY_MULTIFD_INIT_SIZE bytes. FERRY_ERROR_PEER: it is none, or the channel's number is
 * FERRY_MULTIFD_CHANNELS_MAX or more. */
gboolean ferry_multifd_get_init(const guint8 *data, FerryMultifdInit *init, GError **error);

typedef struct {
	gboolean sync;
	FerryMultifdCompression compression; /* of the payload; NONE where there are no pages */
	guint32 pages;                       /* 0 to FERRY_MULTIFD_PAGES */
	guint32 payload; /* bytes behind the header; not compressed: those of the pages */
	guint64 number;  /* counts the packets of all channels */
	char block[256]; /* empty where there are no pages */
	guint64 offsets[FERRY_MULTIFD_PAGES]; /* of each page in the block, bytes, page-aligned */
} FerryMultifdPacket;

/* Fills FERRY_MULTIFD_HEADER_SIZE bytes. */
void ferry_multifd_put_packet(guint8 *out, const FerryMultifdPacket *packet);
/* @data has FERRY_MULTIFD_HEADER_SIZE bytes. Everything is checked that can be without knowing the
 * RAM: FERRY_ERROR_PEER; FERRY_ERROR_NOSUPP for what later QEMUs may send, with the remedy. */
gboolean ferry_multifd_get_packet(const guint8 *data, FerryMultifdPacket *packet, GError **error);
/* Whether all pages lie inside a block of @size bytes. FERRY_ERROR_PEER. */
gboolean ferry_multifd_packet_fits(const FerryMultifdPacket *packet, guint64 size, GError **error);

/* ---- reading a channel ---- */

/* One channel behind its init packet: one thread at a time. It takes any compression, which a
 * channel never changes: the first packet with pages says it. */
typedef struct FerryMultifdReader FerryMultifdReader;

/* @read gives the channel's bytes (a FerryChannel's read, for one); @user is borrowed. */
FerryMultifdReader *ferry_multifd_reader_new(FerryReadFunc read, gpointer user);
/* NULL is allowed. */
void ferry_multifd_reader_free(FerryMultifdReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryMultifdReader, ferry_multifd_reader_free)

/* Bytes read so far, init packet not included. The thread of the reader. */
guint64 ferry_multifd_reader_offset(const FerryMultifdReader *reader);

/* The next header; blocks. The pages of the last one were read. FALSE without @error: the channel
 * ended between two packets. An end elsewhere is FERRY_ERROR_LINK. Any error is the channel's
 * last. */
gboolean ferry_multifd_reader_next(FerryMultifdReader *reader, FerryMultifdPacket *packet,
				   GError **error);

/* The packet's pages, once, and only if there are any: page i goes to pages[i], FERRY_PAGE_SIZE
 * bytes, whose place the caller chose by block and offsets[i]. Pages that lie side by side are read
 * with one system call where they are not compressed. Where a compressed packet proves broken,
 * pages may have been written. */
gboolean ferry_multifd_reader_pages(FerryMultifdReader *reader, const FerryMultifdPacket *packet,
				    guint8 *const *pages, GError **error);

/* ---- compressing for a channel ---- */

/* One channel's compressor, for all of its life: packets refer to those before. */
typedef struct FerryMultifdCompressor FerryMultifdCompressor;

/* ZLIB with @level 0 to 9 or ZSTD with 0 to 20. FERRY_ERROR_IO: no memory. */
FerryMultifdCompressor *ferry_multifd_compressor_new(FerryMultifdCompression compression, int level,
						     GError **error);
/* NULL is allowed. */
void ferry_multifd_compressor_free(FerryMultifdCompressor *compressor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryMultifdCompressor, ferry_multifd_compressor_free)

/* The payload of a packet of @n pages, 1 to FERRY_MULTIFD_PAGES, which may change meanwhile: a page
 * then arrives as some mixture. *@payload is the compressor's until the next call. Returns its
 * bytes; 0 with @error. */
size_t ferry_multifd_compress(FerryMultifdCompressor *compressor, const guint8 *const *pages,
			      guint n, const guint8 **payload, GError **error);

G_END_DECLS
