/* SPDX-License-Identifier: BSD-2-Clause */
#include "inspection.h"

/* Places that look like the description, yet none fits the devices: then there is none. */
#define CANDIDATES_MAX 16u

/* A description candidate at @at: after an EOF byte, whole, and with braces at both ends. */
static gboolean is_description(const guint8 *tail, size_t len, size_t at)
{
	guint32 json_len;

	if (!at || len - at < 7 || tail[at - 1] != FERRY_SECTION_EOF ||
	    tail[at] != FERRY_SECTION_VMDESC)
		return FALSE;
	json_len = ferry_load_be32(tail + at + 1);
	return json_len >= 2 && json_len <= FERRY_VMDESC_MAX && json_len <= len - at - 5 &&
	       tail[at + 5] == '{' && tail[at + 5 + json_len - 1] == '}';
}

/* The cut by the first description that fits; *@at is its place. NULL with @error if one is there,
 * but none fits; NULL without if there is none. */
static GArray *cut_by_description(const guint8 *tail, size_t len, size_t *at, GError **error)
{
	g_autoptr(GError) first = NULL;
	guint candidates = 0;

	for (const guint8 *p = tail; p && candidates < CANDIDATES_MAX;) {
		g_autoptr(GError) reason = NULL;
		GArray *sections;
		size_t here;

		p = memchr(p, FERRY_SECTION_VMDESC, tail + len - p);
		if (!p)
			break;
		here = p++ - tail;
		if (!is_description(tail, len, here))
			continue;
		candidates++;
		sections = ferry_stream_delimit_devices(tail, here, (const char *)tail + here + 5,
							ferry_load_be32(tail + here + 1), &reason);
		if (sections) {
			*at = here;
			return sections;
		}
		if (!first)
			first = g_steal_pointer(&reason);
	}
	if (first)
		g_propagate_error(error, g_steal_pointer(&first));
	return NULL;
}

static gboolean same_cut(const GArray *a, const GArray *b)
{
	if (!b || a->len != b->len)
		return FALSE;
	for (guint i = 0; i < a->len; i++)
		if (g_array_index(a, FerryDeviceSection, i).offset !=
		    g_array_index(b, FerryDeviceSection, i).offset)
			return FALSE;
	return TRUE;
}

static void add_devices(FerryInspection *found, const GArray *sections, guint64 base)
{
	FerryInspectionItem eof = { .kind = "eof" };

	for (guint i = 0; i < sections->len; i++) {
		const FerryDeviceSection *section = &g_array_index(sections, FerryDeviceSection, i);
		FerryInspectionItem item = { .kind = "device", .has_ids = TRUE };

		item.name = g_strdup(section->name);
		item.section_id = section->section_id;
		item.instance_id = section->instance_id;
		item.version_id = section->version_id;
		found->device_bytes += section->length;
		ferry_inspection_add(found, &item, base + section->offset + section->length);
	}
	found->devices = sections->len;
	ferry_inspection_add(found, &eof, found->bytes + 1);
}

/* Machine types without a configuration have no footers, and the oldest no description: their
 * device state is shown as one piece. */
static gboolean add_opaque(FerryInspection *found, const guint8 *tail, size_t len, guint64 base)
{
	FerryInspectionItem item = { .kind = "devices" }, eof = { .kind = "eof" },
			    description = { .kind = "description" };
	size_t end = ferry_stream_find_description(tail, len);

	if (!end)
		end = len;
	if (tail[end - 1] != FERRY_SECTION_EOF)
		return FALSE;
	item.detail = g_strdup("not delimited: a machine type before 2.4 sends no footers");
	found->cut_by = "nothing";
	found->device_bytes = end - 1;
	ferry_inspection_add(found, &item, base + end - 1);
	ferry_inspection_add(found, &eof, base + end);
	if (end < len)
		ferry_inspection_add(found, &description, base + len);
	return TRUE;
}

static gboolean read_after_eof(FerryInspection *found, const guint8 *tail, size_t len, guint64 base,
			       GError **error)
{
	size_t at = found->bytes - base;
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(tail + at, len - at);
	guint64 begin = found->bytes;

	if (!ferry_inspection_read_elements(found, reader, begin, error)) {
		g_prefix_error(error, "after offset %" G_GUINT64_FORMAT ": ", begin);
		return FALSE;
	}
	if (found->bytes == base + len)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
		    "migration stream at offset %" G_GUINT64_FORMAT
		    ": a device section after the end",
		    found->bytes);
	return FALSE;
}

gboolean ferry_inspection_read_tail(FerryInspection *found, const guint8 *tail, size_t len,
				    guint64 offset, GError **error)
{
	g_autoptr(GError) reason = NULL;
	g_autoptr(GArray) sections = NULL, scanned = NULL;
	size_t description = 0;

	if (!found->config.machine && add_opaque(found, tail, len, offset))
		return TRUE;
	sections = cut_by_description(tail, len, &description, &reason);
	if (sections) {
		scanned = ferry_stream_scan_devices(tail, description);
		found->cut_by = "description";
		found->scan_agrees = same_cut(sections, scanned);
		add_devices(found, sections, offset);
		return read_after_eof(found, tail, len, offset, error);
	}
	scanned = reason ? NULL : ferry_stream_scan_devices(tail, len);
	if (scanned) {
		found->cut_by = "footers";
		add_devices(found, scanned, offset);
		return TRUE;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_STREAM,
		    "migration stream at offset %" G_GUINT64_FORMAT
		    ": the device state that begins here has no end: %s",
		    offset,
		    reason ? reason->message
			   : "no JSON description follows, and its footers do not add up");
	return FALSE;
}
