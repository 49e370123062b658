/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/bytes.h>

G_BEGIN_DECLS

/*
 * The numbers of the control stream. The first part is QEMU's public wire format, version 3; the
 * second is Ferry's own, spoken only after both peers know each other. docs/protocol.md specifies
 * both.
 */
#define FERRY_STREAM_MAGIC 0x5145564du /* "QEVM" */
#define FERRY_STREAM_VERSION 3u

typedef enum {
	FERRY_SECTION_EOF = 0x00,
	FERRY_SECTION_START = 0x01,
	FERRY_SECTION_PART = 0x02,
	FERRY_SECTION_END = 0x03,
	FERRY_SECTION_FULL = 0x04,
	FERRY_SECTION_SUBSECTION = 0x05,
	FERRY_SECTION_VMDESC = 0x06,
	FERRY_SECTION_CONFIGURATION = 0x07,
	FERRY_SECTION_COMMAND = 0x08,
	FERRY_SECTION_FOOTER = 0x7e,
} FerrySectionType;

typedef enum {
	FERRY_COMMAND_OPEN_RETURN_PATH = 1,
	FERRY_COMMAND_PING = 2,
	FERRY_COMMAND_POSTCOPY_ADVISE = 3,
	FERRY_COMMAND_POSTCOPY_LISTEN = 4,
	FERRY_COMMAND_POSTCOPY_RUN = 5,
	FERRY_COMMAND_POSTCOPY_RAM_DISCARD = 6,
	FERRY_COMMAND_PACKAGED = 7,
	FERRY_COMMAND_ENABLE_COLO = 8,
	FERRY_COMMAND_POSTCOPY_RESUME = 9,
	FERRY_COMMAND_RECV_BITMAP = 10,
	FERRY_COMMAND_SWITCHOVER_START = 11,
	FERRY_COMMAND_FERRY = 0x4652, /* one of Ferry's records */
} FerryCommandNumber;

/* Return path, destination to source: be16 type, be16 length, data. */
typedef enum {
	FERRY_RETURN_SHUT = 1,
	FERRY_RETURN_PONG = 2,
	FERRY_RETURN_REQ_PAGES_ID = 3,
	FERRY_RETURN_REQ_PAGES = 4,
	FERRY_RETURN_RECV_BITMAP = 5,
	FERRY_RETURN_RESUME_ACK = 6,
	FERRY_RETURN_SWITCHOVER_ACK = 7,
	FERRY_RETURN_FERRY = 0x4652, /* one of Ferry's records */
} FerryReturnType;
#define FERRY_RETURN_DATA_MAX 512u
/* Behind the bitmap that follows RECV_BITMAP. */
#define FERRY_RETURN_BITMAP_END 0x0123456789abcdefull

/* The low bits of a word in a ram section's body. */
#define FERRY_RAM_ZERO 0x02u
#define FERRY_RAM_MEM_SIZE 0x04u
#define FERRY_RAM_PAGE 0x08u
#define FERRY_RAM_EOS 0x10u
#define FERRY_RAM_CONTINUE 0x20u
#define FERRY_RAM_XBZRLE 0x40u
#define FERRY_RAM_HOOK 0x80u
#define FERRY_RAM_COMPRESSED 0x100u
#define FERRY_RAM_MULTIFD_FLUSH 0x200u
#define FERRY_RAM_FLAGS 0xfffu
/* Behind the header of a page with FERRY_RAM_XBZRLE: the encoding, the only one; then be16 length
 * and the data. Behind one with FERRY_RAM_COMPRESSED: be32 length and the data. */
#define FERRY_RAM_ENCODING_XBZRLE 0x01u

/* The one iterable section: id (not 0, which QEMU takes for unset) and version. */
#define FERRY_RAM_SECTION_ID 2u
#define FERRY_RAM_SECTION_VERSION 4u

/* PING's value by which a Ferry source asks "are you one?"; a Ferry answers with its complement. */
#define FERRY_PING_HELLO 0x46455252u

/*
 * A record: be16 type, u8 version, u8 flags, be32 length, payload[length]. It is the data of
 * FERRY_COMMAND_FERRY one way and of FERRY_RETURN_FERRY the other. A type that the receiver does
 * not know is skipped if FERRY_RECORD_MAY_SKIP is set, else refused by its number.
 */
#define FERRY_RECORD_HEADER 8u
#define FERRY_RECORD_VERSION 1u
#define FERRY_RECORD_MAY_SKIP 0x01u

typedef enum {
	/* either way */
	FERRY_RECORD_HELLO = 1,
	FERRY_RECORD_ERROR = 2,     /* why I refuse, UTF-8; SHUT or close follows */
	FERRY_RECORD_HEARTBEAT = 3, /* I live; may be skipped */
	/* source to destination */
	FERRY_RECORD_ROUND_BEGIN = 0x10,
	FERRY_RECORD_ROUND_END = 0x11,
	FERRY_RECORD_CARRIER = 0x12, /* which carrier brings the pages */
	FERRY_RECORD_HANDOVER_PREPARE = 0x20,
	FERRY_RECORD_HANDOVER_COMMIT = 0x21,
	FERRY_RECORD_HANDOVER_DONE = 0x22,
	FERRY_RECORD_HANDOVER_ABORT = 0x23,
	FERRY_RECORD_HANDOVER_QUERY = 0x24,
	/* destination to source */
	FERRY_RECORD_ROUND_DONE = 0x80,
	FERRY_RECORD_HANDOVER_READY = 0x90,
	FERRY_RECORD_HANDOVER_RUNNING = 0x91,
	FERRY_RECORD_HANDOVER_STATE = 0x92,
	FERRY_RECORD_POSTCOPY_HAVE_ALL = 0x93, /* every page has come, where they are fetched */
	/* the carriers', 0x100 to 0x1ff */
	FERRY_RECORD_PAGES = 0x100,      /* be32 block, be64 first, be64 pages; then the pages */
	FERRY_RECORD_ZERO_PAGES = 0x101, /* be32 block, be64 first, be64 pages */
	/* be32 block, be64 page, be32 form, be32 length; then as many bytes */
	FERRY_RECORD_ENCODED_PAGE = 0x102,
} FerryRecordType;
#define FERRY_RECORD_IS_CARRIER(type) ((type) >= 0x100 && (type) <= 0x1ff)
/* Of these, the ones of a carrier beside the channel; rdma/messages.h has RDMA's. */
#define FERRY_RECORD_IS_FABRIC(type) ((type) >= 0x110 && (type) <= 0x1ff)

/* Bits of HELLO's features: the source offers, the destination answers with those in use. */
#define FERRY_FEATURE_DIGEST 1u  /* a digest of RAM will be asked for: digest along */
#define FERRY_FEATURE_RDMA 2u    /* pages can go by RDMA; with any of these two, CARRIER comes */
#define FERRY_FEATURE_STREAMS 4u /* pages can go over parallel connections */
/* the guest may run there before its pages: ADVISE follows, and the commit is POSTCOPY_RUN */
#define FERRY_FEATURE_POSTCOPY 8u
/* ENCODED_PAGE may come: pages as differences, or deflated */
#define FERRY_FEATURE_ENCODED 16u
#define FERRY_FEATURE_MULTIFD 32u /* pages go over multifd's channels; CARRIER comes */
/* a rehearsal: nothing is handed over, and the destination waits for the next afterwards */
#define FERRY_FEATURE_REHEARSAL 64u

/* The forms of a page in ENCODED_PAGE. */
typedef enum {
	FERRY_PAGE_FORM_PLAIN = 0,  /* its bytes */
	FERRY_PAGE_FORM_XBZRLE = 1, /* what changed in the page that is there; ferry/page-codec.h */
	FERRY_PAGE_FORM_ZLIB = 2,   /* deflated (RFC 1950) */
} FerryPageForm;

/* Bytes that name a session: made by the source for each migration, echoed by the destination. */
#define FERRY_NONCE_SIZE 16u

/* Largest run of one PAGES record, bytes; both sides check it. */
#define FERRY_PAGES_RUN_MAX (16u << 20)

static inline void ferry_put_record_header(GByteArray *out, guint16 type, guint8 flags,
					   guint32 length)
{
	ferry_put_be16(out, type);
	ferry_put_u8(out, FERRY_RECORD_VERSION);
	ferry_put_u8(out, flags);
	ferry_put_be32(out, length);
}

G_END_DECLS
