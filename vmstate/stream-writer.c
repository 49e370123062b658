/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/stream.h>

static void put_name(GByteArray *out, const char *name)
{
	size_t len = strlen(name);

	g_assert(len <= 255);
	ferry_put_u8(out, len);
	g_byte_array_append(out, (const guint8 *)name, len);
}

void ferry_stream_put_header(GByteArray *out)
{
	ferry_put_be32(out, FERRY_STREAM_MAGIC);
	ferry_put_be32(out, FERRY_STREAM_VERSION);
}

void ferry_stream_put_configuration(GByteArray *out, const char *machine,
				    const char *const *capabilities)
{
	guint32 count = capabilities ? g_strv_length((char **)capabilities) : 0;

	ferry_put_u8(out, FERRY_SECTION_CONFIGURATION);
	ferry_put_be32(out, strlen(machine));
	g_byte_array_append(out, (const guint8 *)machine, strlen(machine));
	if (!count)
		return;
	ferry_put_u8(out, FERRY_SECTION_SUBSECTION);
	put_name(out, "configuration/capabilities");
	ferry_put_be32(out, 1);
	ferry_put_be32(out, count);
	for (guint32 i = 0; i < count; i++)
		put_name(out, capabilities[i]);
}

void ferry_stream_put_uuid(GByteArray *out, const guint8 uuid[16])
{
	ferry_put_u8(out, FERRY_SECTION_SUBSECTION);
	put_name(out, "configuration/uuid");
	ferry_put_be32(out, 1);
	g_byte_array_append(out, uuid, 16);
}

void ferry_stream_put_section(GByteArray *out, FerrySectionType type, guint32 section_id,
			      const char *name, guint32 instance_id, guint32 version_id)
{
	ferry_put_u8(out, type);
	ferry_put_be32(out, section_id);
	if (type == FERRY_SECTION_PART || type == FERRY_SECTION_END)
		return;
	put_name(out, name);
	ferry_put_be32(out, instance_id);
	ferry_put_be32(out, version_id);
}

void ferry_stream_put_footer(GByteArray *out, guint32 section_id)
{
	ferry_put_u8(out, FERRY_SECTION_FOOTER);
	ferry_put_be32(out, section_id);
}

void ferry_stream_put_command(GByteArray *out, guint16 command, const void *data, guint16 len)
{
	ferry_put_u8(out, FERRY_SECTION_COMMAND);
	ferry_put_be16(out, command);
	ferry_put_be16(out, len);
	if (len)
		g_byte_array_append(out, data, len);
}

void ferry_stream_put_vmdesc(GByteArray *out, const char *json, size_t len)
{
	ferry_put_u8(out, FERRY_SECTION_VMDESC);
	ferry_put_be32(out, len);
	g_byte_array_append(out, (const guint8 *)json, len);
}

void ferry_stream_put_ram_list(GByteArray *out, const FerryRam *ram)
{
	ferry_stream_put_ram_total(out, ram);
	for (guint i = 0; i < ram->n_blocks; i++)
		ferry_stream_put_ram_block(out, &ram->blocks[i], FALSE);
}

void ferry_stream_put_ram_total(GByteArray *out, const FerryRam *ram)
{
	ferry_put_be64(out, ram->total | FERRY_RAM_MEM_SIZE);
}

void ferry_stream_put_ram_block(GByteArray *out, const FerryRamBlock *block, gboolean with_address)
{
	put_name(out, block->name);
	ferry_put_be64(out, block->size);
	if (with_address)
		ferry_put_be64(out, block->guest_address);
}

void ferry_stream_put_mapped_header(GByteArray *out, const FerryMappedPlace *place)
{
	ferry_put_be32(out, FERRY_MAPPED_VERSION);
	ferry_put_be64(out, FERRY_PAGE_SIZE);
	ferry_put_be64(out, place->bitmap);
	ferry_put_be64(out, place->pages);
}
