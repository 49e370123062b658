/* SPDX-License-Identifier: BSD-2-Clause */
#include <json-glib/json-glib.h>
#include "capture.h"

#define FORMAT "ferry-capture"

static void build_string(JsonBuilder *builder, const char *name, const char *value)
{
	json_builder_set_member_name(builder, name);
	json_builder_add_string_value(builder, value);
}

static void build_number(JsonBuilder *builder, const char *name, guint64 value)
{
	json_builder_set_member_name(builder, name);
	json_builder_add_int_value(builder, value);
}

static char *uuid_to_text(const guint8 uuid[16])
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < 16; i++)
		g_string_append_printf(text, "%s%02x",
				       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
	return g_string_free(text, FALSE);
}

static gboolean uuid_from_text(const char *text, guint8 uuid[16])
{
	if (!g_uuid_string_is_valid(text))
		return FALSE;
	for (guint i = 0; i < 16; i++) {
		text += *text == '-';
		uuid[i] = g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]);
		text += 2;
	}
	return TRUE;
}

static void build_configuration(JsonBuilder *builder, const FerryStreamConfiguration *config)
{
	json_builder_set_member_name(builder, "configuration");
	if (!config->machine) {
		json_builder_add_null_value(builder);
		return;
	}
	json_builder_begin_object(builder);
	build_string(builder, "machine", config->machine);
	json_builder_set_member_name(builder, "capabilities");
	json_builder_begin_array(builder);
	for (guint i = 0; i < config->capabilities->len; i++)
		json_builder_add_string_value(builder, config->capabilities->pdata[i]);
	json_builder_end_array(builder);
	if (config->has_uuid) {
		g_autofree char *text = uuid_to_text(config->uuid);

		build_string(builder, "uuid", text);
	}
	if (config->target_page_bits)
		build_number(builder, "target-page-bits", config->target_page_bits);
	json_builder_end_object(builder);
}

static void build_ram(JsonBuilder *builder, const FerryCapture *capture)
{
	json_builder_set_member_name(builder, "ram");
	json_builder_begin_object(builder);
	build_number(builder, "section-id", capture->ram_section_id);
	build_number(builder, "version-id", capture->ram_version_id);
	json_builder_set_member_name(builder, "blocks");
	json_builder_begin_array(builder);
	for (guint i = 0; i < capture->blocks->len; i++) {
		const FerryCaptureBlock *block = &g_array_index(capture->blocks, FerryCaptureBlock,
								i);

		json_builder_begin_object(builder);
		build_string(builder, "name", block->name);
		build_number(builder, "size", block->size);
		build_string(builder, "file", block->file);
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
	json_builder_end_object(builder);
}

char *ferry_capture_map_to_json(const FerryCapture *capture)
{
	g_autoptr(JsonBuilder) builder = json_builder_new_immutable();
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *checksum = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256,
								 capture->devices);

	json_builder_begin_object(builder);
	build_string(builder, "format", FORMAT);
	build_number(builder, "version", FERRY_CAPTURE_VERSION);
	build_configuration(builder, &capture->config);
	build_ram(builder, capture);
	json_builder_set_member_name(builder, "devices");
	json_builder_begin_object(builder);
	build_string(builder, "file", "devices.bin");
	build_number(builder, "size", g_bytes_get_size(capture->devices));
	build_string(builder, "sha256", checksum);
	json_builder_end_object(builder);
	json_builder_set_member_name(builder, "description");
	if (capture->description) {
		json_builder_begin_object(builder);
		build_string(builder, "file", "vmdesc.json");
		build_number(builder, "size", g_bytes_get_size(capture->description));
		json_builder_end_object(builder);
	} else {
		json_builder_add_null_value(builder);
	}
	json_builder_end_object(builder);
	root = json_builder_get_root(builder);
	json_generator_set_root(generator, root);
	json_generator_set_pretty(generator, TRUE);
	return json_generator_to_data(generator, NULL);
}

static void build_device(JsonBuilder *builder, const FerryDeviceSection *section)
{
	/* Header and footer: type, id, name, instance, version; type, id. */
	guint64 size = section->length - (14 + strlen(section->name)) - 5;

	json_builder_begin_object(builder);
	build_string(builder, "name", section->name);
	build_number(builder, "instance_id", section->instance_id);
	build_number(builder, "size", size);
	json_builder_set_member_name(builder, "fields");
	json_builder_begin_array(builder);
	json_builder_begin_object(builder);
	build_string(builder, "name", "data");
	build_number(builder, "size", size);
	build_string(builder, "type", "buffer");
	json_builder_end_object(builder);
	json_builder_end_array(builder);
	json_builder_end_object(builder);
}

GBytes *ferry_capture_describe(const GArray *sections)
{
	g_autoptr(JsonBuilder) builder = json_builder_new_immutable();
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autoptr(JsonNode) root = NULL;
	gsize len;
	char *text;

	json_builder_begin_object(builder);
	build_number(builder, "page_size", FERRY_PAGE_SIZE);
	json_builder_set_member_name(builder, "devices");
	json_builder_begin_array(builder);
	for (guint i = 0; i < sections->len; i++)
		build_device(builder, &g_array_index(sections, FerryDeviceSection, i));
	json_builder_end_array(builder);
	json_builder_end_object(builder);
	root = json_builder_get_root(builder);
	json_generator_set_root(generator, root);
	text = json_generator_to_data(generator, &len);
	return g_bytes_new_take(text, len);
}

/* Reading: json-glib's readers check each type; the first failure sticks and ends in get_error().
 */
static guint64 read_number(JsonReader *reader, const char *name)
{
	gint64 value = 0;

	if (json_reader_read_member(reader, name))
		value = json_reader_get_int_value(reader);
	json_reader_end_member(reader);
	return MAX(value, 0);
}

/* Owned by the reader; "" if there is none. */
static const char *read_string(JsonReader *reader, const char *name)
{
	const char *value = NULL;

	if (json_reader_read_member(reader, name))
		value = json_reader_get_string_value(reader);
	json_reader_end_member(reader);
	return value ? value : "";
}

static gboolean has_object(JsonReader *reader, const char *name)
{
	gboolean is_object = json_reader_read_member(reader, name) && json_reader_is_object(reader);

	json_reader_end_member(reader);
	return is_object;
}

static gboolean has_member(JsonReader *reader, const char *name)
{
	g_auto(GStrv) members = json_reader_list_members(reader);

	return members && g_strv_contains((const char *const *)members, name);
}

static gboolean read_configuration(JsonReader *reader, FerryStreamConfiguration *config)
{
	gboolean ok = TRUE;
	gint n;

	if (!has_object(reader, "configuration"))
		return TRUE;
	json_reader_read_member(reader, "configuration");
	config->machine = g_strdup(read_string(reader, "machine"));
	config->capabilities = g_ptr_array_new_with_free_func(g_free);
	json_reader_read_member(reader, "capabilities");
	n = json_reader_count_elements(reader);
	for (gint i = 0; i < n; i++) {
		const char *name;

		json_reader_read_element(reader, i);
		name = json_reader_get_string_value(reader);
		json_reader_end_element(reader);
		ok = ok && name && strlen(name) < 256;
		g_ptr_array_add(config->capabilities, g_strdup(name ? name : ""));
	}
	json_reader_end_member(reader);
	config->has_uuid = has_member(reader, "uuid");
	if (config->has_uuid)
		ok = ok && uuid_from_text(read_string(reader, "uuid"), config->uuid);
	if (has_member(reader, "target-page-bits"))
		config->target_page_bits = read_number(reader, "target-page-bits");
	json_reader_end_member(reader);
	return ok && strlen(config->machine) <= FERRY_MACHINE_NAME_MAX;
}

static gboolean read_blocks(JsonReader *reader, FerryCapture *capture)
{
	gboolean ok = TRUE;
	gint n;

	json_reader_read_member(reader, "ram");
	capture->ram_section_id = read_number(reader, "section-id");
	capture->ram_version_id = read_number(reader, "version-id");
	json_reader_read_member(reader, "blocks");
	n = json_reader_count_elements(reader);
	for (gint i = 0; i < n; i++) {
		FerryCaptureBlock block = { .fd = -1 };

		json_reader_read_element(reader, i);
		block.name = g_strdup(read_string(reader, "name"));
		block.file = g_strdup(read_string(reader, "file"));
		block.size = read_number(reader, "size");
		json_reader_end_element(reader);
		/* A file elsewhere is not part of the capture. */
		ok = ok && block.name[0] && strlen(block.name) <= FERRY_RAM_NAME_MAX &&
		     block.size && block.size % FERRY_PAGE_SIZE == 0 &&
		     g_str_has_prefix(block.file, "ram-") && !strchr(block.file, '/');
		g_array_append_val(capture->blocks, block);
	}
	json_reader_end_member(reader);
	json_reader_end_member(reader);
	return ok && n > 0;
}

static gboolean refuse(GError **error, const char *why)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH, "it is not a capture: %s", why);
	return FALSE;
}

gboolean ferry_capture_map_from_json(FerryCapture *capture, const char *json, gsize len,
				     guint64 sizes[2], char **checksum, GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new_immutable();
	g_autoptr(JsonReader) reader = NULL;
	guint64 version;
	gboolean ok;

	if (!len)
		return refuse(error, "it is empty");
	if (!json_parser_load_from_data(parser, json, len, error))
		return FALSE;
	reader = json_reader_new(json_parser_get_root(parser));
	if (!g_str_equal(read_string(reader, "format"), FORMAT))
		return refuse(error, "its \"format\" is not \"" FORMAT "\"");
	version = read_number(reader, "version");
	if (version != FERRY_CAPTURE_VERSION) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "capture version %" G_GUINT64_FORMAT ", this ferry knows version %u",
			    version, FERRY_CAPTURE_VERSION);
		return FALSE;
	}
	ok = read_configuration(reader, &capture->config) && read_blocks(reader, capture);
	json_reader_read_member(reader, "devices");
	sizes[0] = read_number(reader, "size");
	*checksum = g_strdup(read_string(reader, "sha256"));
	json_reader_end_member(reader);
	if (has_object(reader, "description")) {
		json_reader_read_member(reader, "description");
		sizes[1] = read_number(reader, "size");
		json_reader_end_member(reader);
	}
	if (json_reader_get_error(reader))
		return refuse(error, json_reader_get_error(reader)->message);
	return ok && sizes[0] ? TRUE : refuse(error, "a value is missing or out of range");
}
