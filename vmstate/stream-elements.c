/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/stream.h>

gboolean ferry_stream_read_header(FerryStreamReader *reader, GError **error)
{
	guint32 magic = ferry_stream_reader_be32(reader);
	guint32 version = ferry_stream_reader_be32(reader);

	if (magic != FERRY_STREAM_MAGIC)
		ferry_stream_reader_fail(reader,
					 "it begins with 0x%08x, a migration stream with 0x%08x",
					 magic, FERRY_STREAM_MAGIC);
	else if (version != FERRY_STREAM_VERSION)
		ferry_stream_reader_fail(reader, "it has version %u, only version %u is known",
					 version, FERRY_STREAM_VERSION);
	return ferry_stream_reader_check(reader, error);
}

void ferry_stream_configuration_clear(FerryStreamConfiguration *config)
{
	g_clear_pointer(&config->machine, g_free);
	g_clear_pointer(&config->capabilities, g_ptr_array_unref);
}

static char *read_machine(FerryStreamReader *reader)
{
	guint32 len = ferry_stream_reader_be32(reader);
	char machine[FERRY_MACHINE_NAME_MAX + 1] = "";

	if (len > FERRY_MACHINE_NAME_MAX) {
		ferry_stream_reader_fail(reader,
					 "a machine name of %u bytes; at most %u are accepted", len,
					 FERRY_MACHINE_NAME_MAX);
		return NULL;
	}
	ferry_stream_reader_bytes(reader, machine, len);
	if (memchr(machine, 0, len))
		ferry_stream_reader_fail(reader, "the machine name has a NUL inside");
	return g_strdup(machine);
}

static void read_capabilities(FerryStreamReader *reader, FerryStreamConfiguration *config)
{
	guint32 count = ferry_stream_reader_be32(reader);

	if (count > FERRY_CONFIGURATION_MAX) {
		ferry_stream_reader_fail(reader, "%u capabilities; at most %u are accepted", count,
					 FERRY_CONFIGURATION_MAX);
		return;
	}
	for (guint32 i = 0; i < count && ferry_stream_reader_check(reader, NULL); i++) {
		char name[256];

		ferry_stream_reader_name(reader, name);
		g_ptr_array_add(config->capabilities, g_strdup(name));
	}
}

static void read_uuid(FerryStreamReader *reader, FerryStreamConfiguration *config)
{
	ferry_stream_reader_bytes(reader, config->uuid, sizeof(config->uuid));
	config->has_uuid = TRUE;
}

static void read_target_page_bits(FerryStreamReader *reader, FerryStreamConfiguration *config)
{
	config->target_page_bits = ferry_stream_reader_be32(reader);
}

static const struct {
	const char *name;
	void (*read)(FerryStreamReader *reader, FerryStreamConfiguration *config);
} configuration_subsections[] = {
	{ "configuration/capabilities", read_capabilities },
	{ "configuration/uuid", read_uuid },
	{ "configuration/target-page-bits", read_target_page_bits },
};

/* @seen: one bit for each row of the table that came before. */
static void read_subsection(FerryStreamReader *reader, FerryStreamConfiguration *config,
			    guint *seen)
{
	char name[256];
	guint32 version;

	ferry_stream_reader_u8(reader);
	ferry_stream_reader_name(reader, name);
	version = ferry_stream_reader_be32(reader);
	for (guint i = 0; i < G_N_ELEMENTS(configuration_subsections); i++) {
		if (strcmp(name, configuration_subsections[i].name) != 0)
			continue;
		if (version != 1 || *seen & 1u << i) {
			ferry_stream_reader_fail(reader, "subsection \"%s\" %s", name,
						 version == 1 ? "comes twice"
							      : "has a version other than 1");
			return;
		}
		*seen |= 1u << i;
		configuration_subsections[i].read(reader, config);
		return;
	}
	ferry_stream_reader_fail(reader, "unknown configuration subsection \"%s\" version %u", name,
				 version);
}

gboolean ferry_stream_read_configuration(FerryStreamReader *reader,
					 FerryStreamConfiguration *config, GError **error)
{
	g_auto(FerryStreamConfiguration) in = { 0 };
	guint8 type = ferry_stream_reader_u8(reader);
	guint seen = 0;

	if (type != FERRY_SECTION_CONFIGURATION)
		ferry_stream_reader_fail(
			reader, "element type 0x%02x where the configuration (0x07) is due", type);
	in.machine = read_machine(reader);
	in.capabilities = g_ptr_array_new_with_free_func(g_free);
	while (ferry_stream_reader_peek(reader) == FERRY_SECTION_SUBSECTION)
		read_subsection(reader, &in, &seen);
	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	*config = in;
	memset(&in, 0, sizeof(in));
	return TRUE;
}

static void read_section(FerryStreamReader *reader, FerryStreamElement *element)
{
	element->section_id = ferry_stream_reader_be32(reader);
	if (element->type == FERRY_SECTION_PART || element->type == FERRY_SECTION_END)
		return;
	ferry_stream_reader_name(reader, element->name);
	element->instance_id = ferry_stream_reader_be32(reader);
	element->version_id = ferry_stream_reader_be32(reader);
	if (!element->name[0])
		ferry_stream_reader_fail(reader, "section %u has no name", element->section_id);
}

static void read_vmdesc(FerryStreamReader *reader, FerryStreamElement *element)
{
	element->length = ferry_stream_reader_be32(reader);
	if (element->length > FERRY_VMDESC_MAX)
		ferry_stream_reader_fail(reader,
					 "a JSON description of %u bytes; at most %u are accepted",
					 element->length, FERRY_VMDESC_MAX);
}

gboolean ferry_stream_next(FerryStreamReader *reader, FerryStreamElement *element, GError **error)
{
	FerryStreamElement in = { .offset = ferry_stream_reader_offset(reader) };

	if (ferry_stream_reader_peek(reader) < 0 && ferry_stream_reader_check(reader, NULL)) {
		in.type = FERRY_SECTION_EOF;
		in.length = 1;
		*element = in;
		return TRUE;
	}
	in.type = ferry_stream_reader_u8(reader);
	switch (in.type) {
	case FERRY_SECTION_EOF:
		break;
	case FERRY_SECTION_START:
	case FERRY_SECTION_PART:
	case FERRY_SECTION_END:
	case FERRY_SECTION_FULL:
		read_section(reader, &in);
		break;
	case FERRY_SECTION_COMMAND:
		in.command = ferry_stream_reader_be16(reader);
		in.length = ferry_stream_reader_be16(reader);
		break;
	case FERRY_SECTION_VMDESC:
		read_vmdesc(reader, &in);
		break;
	default:
		ferry_stream_reader_fail(reader, "unknown element type 0x%02x", in.type);
	}
	if (!ferry_stream_reader_check(reader, error))
		return FALSE;
	*element = in;
	return TRUE;
}

gboolean ferry_stream_read_footer(FerryStreamReader *reader, guint32 section_id, GError **error)
{
	guint8 type = ferry_stream_reader_u8(reader);
	guint32 id = ferry_stream_reader_be32(reader);

	if (type != FERRY_SECTION_FOOTER)
		ferry_stream_reader_fail(reader,
					 "0x%02x where the footer (0x7e) of section %u is due",
					 type, section_id);
	else if (id != section_id)
		ferry_stream_reader_fail(reader,
					 "the footer of section %u where that of section %u is due",
					 id, section_id);
	return ferry_stream_reader_check(reader, error);
}
