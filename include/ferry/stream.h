/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <sys/uio.h>
#include <ferry/error.h>
#include <ferry/mapped.h>
#include <ferry/protocol.h>
#include <ferry/ram.h>

G_BEGIN_DECLS

/*
 * The migration stream, element by element. A pull reader over any source of bytes, which trusts
 * nothing, and writers that append to a GByteArray. Neither knows devices; ferry/vmstate.h does.
 * One thread at a time uses a reader.
 */

/* ---- reading ---- */

/* Reads 1 or more bytes; 0 is the end, -1 an error with @error set. */
typedef gssize (*FerryReadFunc)(gpointer user, const struct iovec *iov, int n, GError **error);

typedef struct FerryStreamReader FerryStreamReader;

/* @user is borrowed and must outlive the reader. */
FerryStreamReader *ferry_stream_reader_new(FerryReadFunc read, gpointer user);
/* Reads from memory; @data is borrowed. */
FerryStreamReader *ferry_stream_reader_new_for_data(const void *data, size_t len);
void ferry_stream_reader_free(FerryStreamReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryStreamReader, ferry_stream_reader_free)

/* Bytes consumed so far: the offset that errors name. */
guint64 ferry_stream_reader_offset(const FerryStreamReader *reader);

/*
 * Integers. The reader is sticky: the first failure (end of stream, link, format) is kept, every
 * later get yields 0 and reads nothing. Check once per message with ferry_stream_reader_check(). A
 * stream that ends too early is FERRY_ERROR_LINK where it comes from a FerryReadFunc,
 * FERRY_ERROR_STREAM in memory.
 */
guint8 ferry_stream_reader_u8(FerryStreamReader *reader);
guint16 ferry_stream_reader_be16(FerryStreamReader *reader);
guint32 ferry_stream_reader_be32(FerryStreamReader *reader);
guint64 ferry_stream_reader_be64(FerryStreamReader *reader);

/* Exactly @len bytes. What the buffer does not hold goes straight into @buf, without a copy. What
 * could not be read is zero in @buf. */
void ferry_stream_reader_bytes(FerryStreamReader *reader, void *buf, size_t len);
void ferry_stream_reader_skip(FerryStreamReader *reader, guint64 len);

/* Passes @len bytes of the source over without reading them. FALSE: an error with @error set. */
typedef gboolean (*FerrySkipFunc)(gpointer user, guint64 len, GError **error);
/* From now on long skips use it, with the reader's @user: of a file, in which one can seek. What
 * lies beyond its end is then found out by the next read. */
void ferry_stream_reader_set_skip(FerryStreamReader *reader, FerrySkipFunc skip);

/* 1 to @len bytes, what is there; blocks only for the first. 0 at a clean end of stream or after a
 * failure. For the part of a stream whose length nobody announces. */
size_t ferry_stream_reader_some(FerryStreamReader *reader, void *buf, size_t len);

/* A length byte and that many bytes, NUL-terminated into @name (256 bytes); a NUL inside is an
 * error. */
void ferry_stream_reader_name(FerryStreamReader *reader, char name[256]);

/* Makes the reader fail with FERRY_ERROR_STREAM at the present offset, unless it failed before. */
void ferry_stream_reader_fail(FerryStreamReader *reader, const char *format, ...)
	G_GNUC_PRINTF(2, 3);

/* TRUE while nothing failed; else sets @error to a copy of the first failure. */
gboolean ferry_stream_reader_check(FerryStreamReader *reader, GError **error);

/* The next byte without consuming it; -1 at a clean end of stream or after a failure. Blocks. */
int ferry_stream_reader_peek(FerryStreamReader *reader);
/* The byte behind @ahead others without consuming any; -1 where the stream ends before it. Blocks
 * until that many are there: ask for a far one only if the nearer ones promise it. */
#define FERRY_STREAM_PEEK_MAX 512u
int ferry_stream_reader_peek_at(FerryStreamReader *reader, guint ahead);

/* FerryReadExactly over the reader, for carriers: @user is the FerryStreamReader. */
gboolean ferry_stream_reader_read_exactly(gpointer user, void *buf, size_t len, GError **error);

/* The file header: magic and version. */
gboolean ferry_stream_read_header(FerryStreamReader *reader, GError **error);

#define FERRY_MACHINE_NAME_MAX 256u
#define FERRY_CONFIGURATION_MAX 64u  /* capabilities in one subsection */
#define FERRY_VMDESC_MAX (64u << 20) /* bytes of the JSON description */

/* The configuration element; the type byte has been peeked, not consumed. */
typedef struct {
	char *machine; /* without NUL inside */
	/* of char *: names in "configuration/capabilities"; may be empty */
	GPtrArray *capabilities;
	gboolean has_uuid;
	guint8 uuid[16];
	guint32 target_page_bits; /* 0 when not sent */
} FerryStreamConfiguration;
gboolean ferry_stream_read_configuration(FerryStreamReader *reader,
					 FerryStreamConfiguration *config, GError **error);
void ferry_stream_configuration_clear(FerryStreamConfiguration *config);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FerryStreamConfiguration, ferry_stream_configuration_clear)

/* An element after the configuration. */
typedef struct {
	FerrySectionType type; /* START PART END FULL COMMAND EOF VMDESC */
	guint64 offset;        /* of the type byte */
	guint32 section_id;    /* START PART END FULL */
	char name[256];        /* START FULL */
	guint32 instance_id;   /* START FULL */
	guint32 version_id;    /* START FULL */
	guint16 command;       /* COMMAND */
	guint32 length; /* COMMAND: of the data that follows; VMDESC: of the JSON that follows */
} FerryStreamElement;

/* Reads the next element's header; the body is the caller's to read, then the footer. An unknown
 * type byte is FERRY_ERROR_STREAM. A stream that ends cleanly before a type byte yields EOF with a
 * length of 1 (a real EOF byte has 0). */
gboolean ferry_stream_next(FerryStreamReader *reader, FerryStreamElement *element, GError **error);

/* Reads a section's footer and compares its id. */
gboolean ferry_stream_read_footer(FerryStreamReader *reader, guint32 section_id, GError **error);

/* The name of a record type of Ferry's own: "HANDOVER_READY"; NULL for one not known. Static. */
const char *ferry_record_name(guint16 type);

/* ---- the ram section's body ---- */

typedef struct {
	char name[256];
	guint64 size;
	guint64 address; /* guest physical; 0 unless FerryRamReader.addresses is set */
	/* with FerryRamReader.mapped: where it lies, and how many of its pages are there, the
	 * others being zero; the place is 0 where the block does not go */
	FerryMappedPlace place;
	guint64 placed_pages;
} FerryStreamRamBlock;

typedef enum {
	FERRY_RAM_ITEM_LIST, /* START: the block list, in @blocks */
	FERRY_RAM_ITEM_PAGE, /* FERRY_PAGE_SIZE bytes follow; read them next */
	FERRY_RAM_ITEM_ZERO, /* the page is zero */
	/* @length bytes follow, read them next: ferry_xbzrle_decode()'s, 1 to FERRY_PAGE_SIZE */
	FERRY_RAM_ITEM_XBZRLE,
	/* the same: ferry_page_inflate()'s, 1 to FERRY_PAGE_DEFLATED_MAX */
	FERRY_RAM_ITEM_COMPRESSED,
	FERRY_RAM_ITEM_END, /* EOS; the footer follows */
} FerryRamItemType;

/* State that crosses sections: the list, and the block of the last page. Zero-initialise; clear
 * with ferry_ram_reader_clear(). */
typedef struct {
	GArray *blocks; /* of FerryStreamRamBlock; NULL before the list */
	int last;       /* index + 1 of the last page's block, 0 before the first */
	/* the caller sets it before the list: the configuration names the capability
	 * "x-ignore-shared", by which an address follows each block */
	gboolean addresses;
	/* the caller sets it: it knows what to do with XBZRLE and COMPRESSED; else they are
	 * refused */
	gboolean encodings;
	/* the same for "mapped-ram", by which each block has a place in the file, and its pages are
	 * passed over with the list. Offsets, bitmaps and their padding are checked: nothing lies
	 * before what comes before it, nor beyond the end */
	gboolean mapped;
	guint64 base; /* mapped: where in the file the stream begins */
	guint64 end;  /* mapped: bytes of the file; 0: not known */
} FerryRamReader;

typedef struct {
	FerryRamItemType type;
	guint block;    /* of a page: index into FerryRamReader.blocks */
	guint64 offset; /* of a page: bytes, page-aligned, inside the block */
	guint32 length; /* XBZRLE, COMPRESSED: of the data */
} FerryRamItem;

/* The next item. Encodings that the caller does not take (xbzrle, compression, rdma hooks) are
 * refused by name, as are unknown flags, blocks, offsets and lengths. Bounds: 4096 blocks. */
gboolean ferry_ram_reader_next(FerryRamReader *ram, FerryStreamReader *reader, FerryRamItem *item,
			       GError **error);
void ferry_ram_reader_clear(FerryRamReader *ram);
/* Sets addresses and mapped as the configuration's capabilities say. */
void ferry_ram_reader_follow(FerryRamReader *ram, const FerryStreamConfiguration *config);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FerryRamReader, ferry_ram_reader_clear)

/* ---- postcopy's commands, docs/protocol.md 3.6 ---- */

/*
 * Each reads the data of a command whose header ferry_stream_next() gave, to its last byte. What
 * needs no knowledge of the RAM is checked; names and ends of ranges are the caller's to look up.
 */

/* POSTCOPY_ADVISE: *@page_sizes is the bitwise or of all blocks' page sizes, bytes. Another page
 * size of the stream than FERRY_PAGE_SIZE is refused. */
gboolean ferry_stream_read_advise(FerryStreamReader *reader, const FerryStreamElement *command,
				  guint64 *page_sizes, GError **error);

typedef struct {
	guint64 start;  /* bytes, page-aligned */
	guint64 length; /* bytes, page-aligned, not 0; start + length does not wrap */
} FerryByteRange;

/* POSTCOPY_RAM_DISCARD: the block's name (256 bytes), and its ranges, at least one; free them with
 * g_array_unref(). NULL on failure. */
GArray *ferry_stream_read_discard(FerryStreamReader *reader, const FerryStreamElement *command,
				  char name[256], GError **error);

/* PACKAGED: how many bytes of elements follow the command, 1 to @max. */
gboolean ferry_stream_read_package_length(FerryStreamReader *reader,
					  const FerryStreamElement *command, guint32 max,
					  guint32 *length, GError **error);

/* RECV_BITMAP: the name of the block (256 bytes) whose bitmap is asked for. */
gboolean ferry_stream_read_bitmap_request(FerryStreamReader *reader,
					  const FerryStreamElement *command, char name[256],
					  GError **error);

/* ---- delimiting device sections without knowing the devices ---- */

/*
 * All offsets in this part, also those in errors, count from @data.
 *
 * Finds the end of a stream that stays open after its JSON description (a source with return path).
 * @data: from after END's footer. Returns the length of everything up to and including the JSON if
 * @data ends exactly there, else 0.
 */
size_t ferry_stream_find_end(const guint8 *data, size_t len);
/* The same, but returns the offset of the description's type byte, which the EOF byte precedes; or
 * 0. */
size_t ferry_stream_find_description(const guint8 *data, size_t len);

/* One device section, found by walking the JSON description over the bytes. */
typedef struct {
	char name[256];
	guint32 instance_id;
	guint32 version_id;
	guint32 section_id;
	guint64 offset; /* of the type byte in @data */
	guint64 length; /* type byte to footer, inclusive */
} FerryDeviceSection;

/*
 * Walks @json (the stream's description) over @data, which holds the FULL sections and the EOF
 * byte, and checks every name, subsection and footer. Returns an array of FerryDeviceSection in
 * stream order; free with g_array_unref(). Errors name the device and the offset.
 */
GArray *ferry_stream_delimit_devices(const guint8 *data, size_t len, const char *json,
				     size_t json_len, GError **error);

/*
 * The same without a description: cuts where a footer is followed by the header of a section not
 * seen before, or by the EOF byte that ends @data. A good guess, for cross-checks and old streams;
 * device state can hold bytes that look like it. NULL if @data cannot be cut up whole.
 */
GArray *ferry_stream_scan_devices(const guint8 *data, size_t len);

/* ---- writing ---- */

/* Names are at most 255 bytes, the machine's FERRY_MACHINE_NAME_MAX: the caller sees to it. */
void ferry_stream_put_header(GByteArray *out);
/* @capabilities may be NULL or empty: then no subsection is written. */
void ferry_stream_put_configuration(GByteArray *out, const char *machine,
				    const char *const *capabilities);
/* Behind the configuration: its subsection with the guest's UUID. */
void ferry_stream_put_uuid(GByteArray *out, const guint8 uuid[16]);
void ferry_stream_put_section(GByteArray *out, FerrySectionType type, guint32 section_id,
			      const char *name, guint32 instance_id, guint32 version_id);
void ferry_stream_put_footer(GByteArray *out, guint32 section_id);
void ferry_stream_put_command(GByteArray *out, guint16 command, const void *data, guint16 len);
void ferry_stream_put_vmdesc(GByteArray *out, const char *json, size_t len);
/* The MEM_SIZE word and the block list of @ram, without EOS. */
void ferry_stream_put_ram_list(GByteArray *out, const FerryRam *ram);
/* The same in pieces: the word, then each block, @with_address where the configuration names
 * x-ignore-shared. */
void ferry_stream_put_ram_total(GByteArray *out, const FerryRam *ram);
void ferry_stream_put_ram_block(GByteArray *out, const FerryRamBlock *block, gboolean with_address);
/* With mapped-ram, behind the block: the header. The next block is written behind the pages. */
void ferry_stream_put_mapped_header(GByteArray *out, const FerryMappedPlace *place);

/* ---- messages of the return path ---- */

/* SHUT, PONG, RESUME_ACK. */
void ferry_return_put_value(GByteArray *out, FerryReturnType type, guint32 value);
/* REQ_PAGES_ID, or with @name NULL REQ_PAGES, for the block of the last REQ_PAGES_ID. Bytes. */
void ferry_return_put_request(GByteArray *out, const char *name, guint64 start, guint32 length);
/* RECV_BITMAP and what follows it. Bit n of word n/64, in the CPU's order, is set if page n is
 * here. */
void ferry_return_put_bitmap(GByteArray *out, const char *name, const guint64 *words, gsize n);

G_END_DECLS
