/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

gssize sample_source_read(gpointer user, const struct iovec *iov, int n, GError **error)
{
	SampleSource *source = user;
	size_t left = MIN(source->chunk, source->len - source->at);
	gssize got = 0;

	source->reads++;
	if (!left && source->error_at_end) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_CANCELLED, "the link was cut");
		return -1;
	}
	for (int i = 0; i < n && left; i++) {
		size_t part = MIN(left, iov[i].iov_len);

		memcpy(iov[i].iov_base, source->data + source->at, part);
		source->at += part;
		left -= part;
		got += part;
	}
	return got;
}

static void put_page(GByteArray *out, guint64 offset, guint flags, const char *block, int fill)
{
	guint8 page[FERRY_PAGE_SIZE];

	ferry_put_be64(out, offset | flags);
	if (block) {
		ferry_put_u8(out, strlen(block));
		g_byte_array_append(out, (const guint8 *)block, strlen(block));
	}
	memset(page, fill, sizeof(page));
	g_byte_array_append(out, page, flags & FERRY_RAM_ZERO ? 1 : sizeof(page));
}

static void put_ram_sections(GByteArray *out)
{
	FerryRamBlock blocks[] = { { .name = (char *)"m", .size = 4 * FERRY_PAGE_SIZE },
				   { .name = (char *)"rom", .size = FERRY_PAGE_SIZE } };
	FerryRam ram = { .n_blocks = 2, .blocks = blocks, .total = 5 * FERRY_PAGE_SIZE };

	ferry_stream_put_section(out, FERRY_SECTION_START, 2, "ram", 0, 4);
	ferry_stream_put_ram_list(out, &ram);
	ferry_put_be64(out, FERRY_RAM_EOS);
	ferry_stream_put_footer(out, 2);

	ferry_stream_put_section(out, FERRY_SECTION_PART, 2, NULL, 0, 0);
	put_page(out, 0, FERRY_RAM_PAGE, "m", 0x50);
	put_page(out, 2 * FERRY_PAGE_SIZE, FERRY_RAM_PAGE | FERRY_RAM_CONTINUE, NULL, 0x52);
	put_page(out, 0, FERRY_RAM_ZERO, "rom", 0);
	ferry_put_be64(out, FERRY_RAM_EOS);
	ferry_stream_put_footer(out, 2);

	ferry_stream_put_section(out, FERRY_SECTION_END, 2, NULL, 0, 0);
	put_page(out, 0, FERRY_RAM_PAGE | FERRY_RAM_CONTINUE, NULL, 0x60);
	ferry_put_be64(out, FERRY_RAM_EOS);
	ferry_stream_put_footer(out, 2);
}

const char *sample_json(void)
{
	return "{\"page_size\":4096,\"devices\":["
	       "{\"name\":\"timer\",\"instance_id\":0,\"vmsd_name\":\"timer\",\"version\":2,\"fields\":["
	       "{\"name\":\"ticks\",\"type\":\"int64\",\"size\":8},"
	       "{\"name\":\"unused\",\"array_len\":3,\"type\":\"uint16\",\"size\":2}]},"
	       "{\"name\":\"uart\",\"instance_id\":7,\"vmsd_name\":\"serial\",\"version\":3,\"fields\":["
	       "{\"name\":\"state\",\"type\":\"struct\",\"struct\":{\"vmsd_name\":\"inner\",\"version\":1,"
	       "\"fields\":[{\"name\":\"lcr\",\"type\":\"uint8\",\"size\":1}]},\"size\":1}],"
	       "\"subsections\":[{\"vmsd_name\":\"serial/fifo\",\"version\":1,\"fields\":["
	       "{\"name\":\"fifo\",\"type\":\"buffer\",\"size\":5}]}]},"
	       "{\"name\":\"slirp\",\"instance_id\":0,\"size\":4,\"fields\":["
	       "{\"name\":\"data\",\"size\":4,\"type\":\"buffer\"}]}]}";
}

static void put_devices(GByteArray *out)
{
	static const guint8 bytes[16] = "abcdefghijklmno";

	ferry_stream_put_section(out, FERRY_SECTION_FULL, 0, "timer", 0, 2);
	g_byte_array_append(out, bytes, 14);
	ferry_stream_put_footer(out, 0);

	ferry_stream_put_section(out, FERRY_SECTION_FULL, 9, "uart", 7, 3);
	g_byte_array_append(out, bytes, 1);
	ferry_put_u8(out, FERRY_SECTION_SUBSECTION);
	ferry_put_u8(out, strlen("serial/fifo"));
	g_byte_array_append(out, (const guint8 *)"serial/fifo", strlen("serial/fifo"));
	ferry_put_be32(out, 1);
	g_byte_array_append(out, bytes, 5);
	ferry_stream_put_footer(out, 9);

	ferry_stream_put_section(out, FERRY_SECTION_FULL, 5, "slirp", 0, 4);
	g_byte_array_append(out, bytes, 4);
	ferry_stream_put_footer(out, 5);
}

GByteArray *sample_tail(void)
{
	GByteArray *out = g_byte_array_new();

	put_devices(out);
	ferry_put_u8(out, FERRY_SECTION_EOF);
	ferry_stream_put_vmdesc(out, sample_json(), strlen(sample_json()));
	return out;
}

GByteArray *sample_stream(void)
{
	static const char *const capabilities[] = { "x-test", NULL };
	GByteArray *out = g_byte_array_new();
	g_autoptr(GByteArray) tail = sample_tail();

	ferry_stream_put_header(out);
	ferry_stream_put_configuration(out, "pc-i440fx-7.2", capabilities);
	ferry_stream_put_command(out, FERRY_COMMAND_PING, "\0\0\0\1", 4);
	put_ram_sections(out);
	g_byte_array_append(out, tail->data, tail->len);
	return out;
}

static gboolean parse_ram(FerryStreamReader *reader, FerryRamReader *ram, guint *pages,
			  GError **error)
{
	FerryRamItem item = { 0 };
	guint8 page[FERRY_PAGE_SIZE];

	do {
		if (!ferry_ram_reader_next(ram, reader, &item, error))
			return FALSE;
		if (item.type == FERRY_RAM_ITEM_PAGE) {
			ferry_stream_reader_bytes(reader, page, sizeof(page));
			(*pages)++;
		}
	} while (item.type != FERRY_RAM_ITEM_END);
	return ferry_stream_reader_check(reader, error);
}

/* The devices' bodies by their known lengths. */
static gboolean parse_element(FerryStreamReader *reader, FerryRamReader *ram,
			      const FerryStreamElement *element, guint *pages, GError **error)
{
	switch (element->type) {
	case FERRY_SECTION_COMMAND:
	case FERRY_SECTION_VMDESC:
		ferry_stream_reader_skip(reader, element->length);
		return ferry_stream_reader_check(reader, error);
	case FERRY_SECTION_FULL:
		ferry_stream_reader_skip(reader, element->version_id == 2   ? 14
						 : element->version_id == 3 ? 23
									    : 4);
		break;
	default:
		if (!parse_ram(reader, ram, pages, error))
			return FALSE;
	}
	return ferry_stream_read_footer(reader, element->section_id, error);
}

gboolean sample_parse(FerryStreamReader *reader, guint *pages, GError **error)
{
	g_auto(FerryStreamConfiguration) config = { 0 };
	g_auto(FerryRamReader) ram = { 0 };
	FerryStreamElement element;

	*pages = 0;
	if (!ferry_stream_read_header(reader, error) ||
	    !ferry_stream_read_configuration(reader, &config, error))
		return FALSE;
	for (;;) {
		if (!ferry_stream_next(reader, &element, error))
			return FALSE;
		if (element.type == FERRY_SECTION_EOF && element.length == 1)
			return TRUE;
		if (element.type != FERRY_SECTION_EOF &&
		    !parse_element(reader, &ram, &element, pages, error))
			return FALSE;
	}
}
