/* SPDX-License-Identifier: BSD-2-Clause */
#include <json-glib/json-glib.h>
#include <ferry/stream.h>

#define JSON_NESTING_MAX 128u
#define JSON_VALUES_MAX (1u << 20)

size_t ferry_stream_find_description(const guint8 *data, size_t len)
{
	size_t first = len > FERRY_VMDESC_MAX + 6 ? len - (FERRY_VMDESC_MAX + 6) : 0, nul = len;

	if (len < 8 || data[len - 1] != '}')
		return 0;
	/* JSON holds no NUL, so the last one is the EOF byte or one of the four bytes of the
	 * length. */
	while (nul > first && data[nul - 1])
		nul--;
	for (size_t back = 1; back <= 6 && nul >= first + back; back++) {
		size_t eof = nul - back;

		if (len - eof >= 8 && !data[eof] && data[eof + 1] == FERRY_SECTION_VMDESC &&
		    ferry_load_be32(data + eof + 2) == len - eof - 6 && data[eof + 6] == '{')
			return eof + 1;
	}
	return 0;
}

size_t ferry_stream_find_end(const guint8 *data, size_t len)
{
	return ferry_stream_find_description(data, len) ? len : 0;
}

/* json-glib recurses and allocates for each value: bounds both before it sees a byte. */
static gboolean check_json_size(const char *json, size_t len, GError **error)
{
	guint depth = 0, values = 0;
	gboolean quoted = FALSE;

	for (size_t i = 0; i < len; i++) {
		char c = json[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		if (quoted)
			continue;
		depth += c == '{' || c == '[';
		values += c == '{' || c == '[' || c == ',';
		if (depth > JSON_NESTING_MAX || values > JSON_VALUES_MAX) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
				    "the JSON description nests deeper than %u or has more than %u "
				    "values at its offset %zu",
				    JSON_NESTING_MAX, JSON_VALUES_MAX, i);
			return FALSE;
		}
		depth -= (c == '}' || c == ']') && depth;
	}
	return TRUE;
}

static JsonNode *parse_json(const char *json, size_t len, GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new_immutable();
	g_autoptr(GError) cause = NULL;

	if (!len || len > FERRY_VMDESC_MAX) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
			    "a JSON description of %zu bytes; 1 to %u are accepted", len,
			    FERRY_VMDESC_MAX);
		return NULL;
	}
	if (!check_json_size(json, len, error))
		return NULL;
	if (!json_parser_load_from_data(parser, json, len, &cause)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM, "the JSON description: %s",
			    cause->message);
		return NULL;
	}
	if (!json_parser_get_root(parser) ||
	    !JSON_NODE_HOLDS_OBJECT(json_parser_get_root(parser))) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_STREAM,
				    "the JSON description is not an object");
		return NULL;
	}
	return json_parser_steal_root(parser);
}

/* The member @name if it is a number that is not negative, else @fallback. */
static guint64 get_number(JsonObject *object, const char *name, guint64 fallback)
{
	JsonNode *node = json_object_get_member(object, name);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64)
		return fallback;
	return json_node_get_int(node) < 0 ? fallback : (guint64)json_node_get_int(node);
}

static const char *get_string(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_STRING)
		return NULL;
	return json_node_get_string(node);
}

static JsonArray *get_array(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

/* NULL, and the reader fails, where element @i is not an object. */
static JsonObject *get_element(FerryStreamReader *reader, JsonArray *array, guint i)
{
	JsonNode *node = json_array_get_element(array, i);

	if (JSON_NODE_HOLDS_OBJECT(node))
		return json_node_get_object(node);
	ferry_stream_reader_fail(reader, "an entry of the JSON description is not an object");
	return NULL;
}

static void walk_fields(FerryStreamReader *reader, JsonObject *owner)
{
	JsonArray *fields = get_array(owner, "fields");
	guint n = fields ? json_array_get_length(fields) : 0;

	for (guint i = 0; i < n && ferry_stream_reader_check(reader, NULL); i++) {
		JsonObject *field = get_element(reader, fields, i);
		guint64 size, elements, bytes;

		if (!field)
			return;
		size = get_number(field, "size", G_MAXUINT64);
		elements = get_number(field, "array_len", 1);
		if (__builtin_mul_overflow(size, elements, &bytes))
			bytes = G_MAXUINT64;
		if (size == G_MAXUINT64)
			ferry_stream_reader_fail(reader,
						 "field %u has no size in the JSON description", i);
		ferry_stream_reader_skip(reader, bytes);
	}
}

/* Nests as deep as the JSON, which check_json_size() bounds. */
static void walk_subsections(FerryStreamReader *reader, JsonObject *owner)
{
	JsonArray *subsections = get_array(owner, "subsections");
	guint n = subsections ? json_array_get_length(subsections) : 0;

	for (guint i = 0; i < n && ferry_stream_reader_check(reader, NULL); i++) {
		JsonObject *subsection = get_element(reader, subsections, i);
		const char *expected = subsection ? get_string(subsection, "vmsd_name") : NULL;
		guint8 type = ferry_stream_reader_u8(reader);
		char name[256];

		ferry_stream_reader_name(reader, name);
		if (type != FERRY_SECTION_SUBSECTION || !expected || strcmp(name, expected) != 0)
			ferry_stream_reader_fail(reader, "subsection \"%s\" is due here",
						 expected ? expected : "");
		ferry_stream_reader_be32(reader); /* its version, which changes nothing here */
		if (!ferry_stream_reader_check(reader, NULL))
			return;
		walk_fields(reader, subsection);
		walk_subsections(reader, subsection);
	}
}

static gboolean walk_device(FerryStreamReader *reader, JsonObject *device,
			    FerryDeviceSection *section, GError **error)
{
	const char *name = get_string(device, "name");
	guint32 instance = get_number(device, "instance_id", 0);
	FerryStreamElement e;

	if (!ferry_stream_next(reader, &e, error))
		return FALSE;
	if (e.type != FERRY_SECTION_FULL || !name || strcmp(e.name, name) != 0 ||
	    e.instance_id != instance)
		ferry_stream_reader_fail(
			reader, "the section at %" G_GUINT64_FORMAT " is not this device's",
			e.offset);
	walk_fields(reader, device);
	walk_subsections(reader, device);
	if (!ferry_stream_read_footer(reader, e.section_id, error))
		return FALSE;
	g_strlcpy(section->name, e.name, sizeof(section->name));
	section->instance_id = e.instance_id;
	section->version_id = e.version_id;
	section->section_id = e.section_id;
	section->offset = e.offset;
	section->length = ferry_stream_reader_offset(reader) - e.offset;
	return TRUE;
}

static gboolean walk_devices(FerryStreamReader *reader, JsonArray *devices, GArray *sections,
			     GError **error)
{
	guint n = devices ? json_array_get_length(devices) : 0;

	for (guint i = 0; i < n; i++) {
		JsonObject *device = get_element(reader, devices, i);
		FerryDeviceSection section;

		if (!device)
			return ferry_stream_reader_check(reader, error);
		if (!walk_device(reader, device, &section, error)) {
			const char *name = get_string(device, "name");

			g_prefix_error(error, "device \"%s\": ", name ? name : "");
			return FALSE;
		}
		g_array_append_val(sections, section);
	}
	return TRUE;
}

GArray *ferry_stream_delimit_devices(const guint8 *data, size_t len, const char *json,
				     size_t json_len, GError **error)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(data, len);
	g_autoptr(GArray) sections = g_array_new(FALSE, FALSE, sizeof(FerryDeviceSection));
	g_autoptr(JsonNode) root = parse_json(json, json_len, error);

	if (!root || !walk_devices(reader, get_array(json_node_get_object(root), "devices"),
				   sections, error))
		return NULL;
	if (ferry_stream_reader_u8(reader) != FERRY_SECTION_EOF)
		ferry_stream_reader_fail(reader,
					 "a section that the JSON description does not have");
	else if (ferry_stream_reader_peek(reader) >= 0)
		ferry_stream_reader_fail(reader, "bytes after the end of the device sections");
	if (!ferry_stream_reader_check(reader, error))
		return NULL;
	return g_steal_pointer(&sections);
}

static gboolean seen_before(const GArray *sections, guint32 section_id)
{
	for (guint i = 0; i < sections->len; i++)
		if (g_array_index(sections, FerryDeviceSection, i).section_id == section_id)
			return TRUE;
	return FALSE;
}

/* A FULL section's header at @at: fills in @section but for the length, and returns the header's.
 */
static size_t scan_header(const guint8 *data, size_t len, size_t at, const GArray *sections,
			  FerryDeviceSection *section)
{
	guint name_len = len - at > 6 ? data[at + 5] : 0;

	if (!name_len || len - at < 14 + (size_t)name_len || data[at] != FERRY_SECTION_FULL)
		return 0;
	section->section_id = ferry_load_be32(data + at + 1);
	memcpy(section->name, data + at + 6, name_len);
	section->name[name_len] = '\0';
	for (guint i = 0; i < name_len; i++)
		if (!g_ascii_isprint(section->name[i]))
			return 0;
	section->instance_id = ferry_load_be32(data + at + 6 + name_len);
	section->version_id = ferry_load_be32(data + at + 10 + name_len);
	section->offset = at;
	return seen_before(sections, section->section_id) ? 0 : 14 + name_len;
}

/* Whether what follows a footer at @at can: the last EOF byte, or another section. */
static gboolean scan_follows(const guint8 *data, size_t len, size_t at, const GArray *sections)
{
	FerryDeviceSection next;

	if (at + 1 == len)
		return data[at] == FERRY_SECTION_EOF;
	return scan_header(data, len, at, sections, &next) > 0;
}

GArray *ferry_stream_scan_devices(const guint8 *data, size_t len)
{
	g_autoptr(GArray) sections = g_array_new(FALSE, FALSE, sizeof(FerryDeviceSection));
	size_t at = 0;

	while (at + 1 < len) {
		FerryDeviceSection section;
		size_t body = scan_header(data, len, at, sections, &section);
		guint8 footer[5] = { FERRY_SECTION_FOOTER };
		const guint8 *found;

		if (!body)
			return NULL;
		g_array_append_val(sections, section);
		ferry_store_be32(footer + 1, section.section_id);
		body += at;
		do {
			found = memmem(data + body, len - body, footer, sizeof(footer));
			if (!found)
				return NULL;
			body = found - data + sizeof(footer);
		} while (body >= len || !scan_follows(data, len, body, sections));
		g_array_index(sections, FerryDeviceSection, sections->len - 1).length = body - at;
		at = body;
	}
	return at + 1 == len && data[at] == FERRY_SECTION_EOF ? g_steal_pointer(&sections) : NULL;
}
