/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmstate-body.h"

#include <string.h>

#include "vmstate-field.h"

/* The descriptions around one, from the inside out. */
typedef struct Level Level;
struct Level {
	const Level *up;
	const FerryVmstate *vmstate;
	guint depth; /* 1 at the top */
};

static gboolean check_description(const FerryVmstate *vmstate, const Level *up, guint64 *elements,
				  GError **error);

/* @field may be NULL: then the description as a whole is at fault. */
static gboolean G_GNUC_PRINTF(4, 5) refuse(GError **error, const FerryVmstate *vmstate,
					   const FerryVmstateField *field, const char *format, ...)
{
	g_autofree char *message = NULL;
	va_list args;

	va_start(args, format);
	message = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "description \"%s\"%s%s: %s",
		    vmstate->name, field ? ", field " : "", field ? field->name : "", message);
	return FALSE;
}

static gboolean check_size(const FerryVmstate *vmstate, const FerryVmstateField *field,
			   GError **error)
{
	gsize size = ferry_field_integer_size(field->kind);

	if (size && field->size != size)
		return refuse(error, vmstate, field,
			      "the member takes %" G_GSIZE_FORMAT
			      " bytes, but %s takes %" G_GSIZE_FORMAT,
			      field->size, ferry_field_type(field->kind), size);
	if (ferry_field_is_variable_buffer(field))
		return TRUE;
	if (field->size < 1 || field->size > FERRY_VMSTATE_BUFFER_MAX)
		return refuse(error, vmstate, field,
			      "a size of %" G_GSIZE_FORMAT " bytes; 1 to %u are allowed",
			      field->size, FERRY_VMSTATE_BUFFER_MAX);
	return TRUE;
}

static gboolean check_count(const FerryVmstate *vmstate, const FerryVmstateField *field,
			    GError **error)
{
	gsize max = ferry_field_is_variable_buffer(field) ? FERRY_VMSTATE_BUFFER_MAX
							  : FERRY_VMSTATE_ELEMENTS_MAX;

	if (field->shape == FERRY_VMSTATE_SINGLE)
		return TRUE;
	if (field->kind == FERRY_VMSTATE_UNUSED)
		return refuse(error, vmstate, field, "padding is a single field of its size");
	if (field->count < 1 || field->count > max)
		return refuse(error, vmstate, field,
			      "%" G_GSIZE_FORMAT " elements; 1 to %" G_GSIZE_FORMAT " are allowed",
			      field->count, max);
	return TRUE;
}

/* The member that holds the count must not be loaded behind what it counts. */
static gboolean check_count_member(const FerryVmstate *vmstate, const FerryVmstateField *field,
				   GError **error)
{
	gsize size = field->count_size;

	if (field->shape != FERRY_VMSTATE_VARRAY)
		return TRUE;
	if (size != 1 && size != 2 && size != 4 && size != 8)
		return refuse(error, vmstate, field,
			      "its count's member takes %" G_GSIZE_FORMAT
			      " bytes, not 1, 2, 4 or 8",
			      size);
	for (const FerryVmstateField *f = field + 1; f->name; f++) {
		if (f->kind != FERRY_VMSTATE_UNUSED && f->offset == field->count_offset)
			return refuse(error, vmstate, field,
				      "its count is in %s, which comes later; it must come before",
				      f->name);
	}
	return TRUE;
}

static gboolean check_field(const FerryVmstate *vmstate, const FerryVmstateField *field,
			    const Level *level, guint64 *elements, GError **error)
{
	guint64 nested = 0;

	if (!*field->name || !g_utf8_validate(field->name, -1, NULL))
		return refuse(error, vmstate, NULL, "a field's name is empty or not UTF-8");
	if ((guint)field->kind > FERRY_VMSTATE_STRUCT ||
	    (guint)field->shape > FERRY_VMSTATE_POINTER_ARRAY)
		return refuse(error, vmstate, field, "unknown kind %d or shape %d",
			      (int)field->kind, (int)field->shape);
	if (field->version > vmstate->version_id)
		return refuse(error, vmstate, field,
			      "it begins with version %u, but the description is of version %u",
			      field->version, vmstate->version_id);
	if (!check_size(vmstate, field, error) || !check_count(vmstate, field, error) ||
	    !check_count_member(vmstate, field, error))
		return FALSE;
	if (field->kind == FERRY_VMSTATE_STRUCT) {
		if (!field->vmstate)
			return refuse(error, vmstate, field, "a struct needs a description");
		if (!check_description(field->vmstate, level, &nested, error))
			return FALSE;
	}
	if (field->shape == FERRY_VMSTATE_SINGLE)
		*elements += nested;
	else if (!ferry_field_is_variable_buffer(field))
		*elements += field->count * (1 + nested);
	if (*elements > FERRY_VMSTATE_ELEMENTS_TOTAL_MAX)
		return refuse(error, vmstate, field,
			      "more than %u elements, nested arrays multiplied",
			      FERRY_VMSTATE_ELEMENTS_TOTAL_MAX);
	return TRUE;
}

/*
 * A subsection belongs to the innermost description whose name it continues. So no description
 * below another may have a name that one of the other's subsections continues: it would take it for
 * its own.
 */
static gboolean check_not_mistaken(const FerryVmstate *vmstate, const Level *up, GError **error)
{
	gsize len = strlen(vmstate->name);

	for (const Level *l = up; l; l = l->up) {
		for (const FerryVmstate *const *s = l->vmstate->subsections; s && *s; s++) {
			if (!strncmp((*s)->name, vmstate->name, len) && (*s)->name[len] == '/')
				return refuse(
					error, vmstate, NULL,
					"subsection \"%s\" of the description \"%s\" around it "
					"would be taken for its own: rename it",
					(*s)->name, l->vmstate->name);
		}
	}
	return TRUE;
}

static gboolean check_subsection_names(const FerryVmstate *vmstate, GError **error)
{
	gsize len = strlen(vmstate->name);
	guint n = 0;

	for (const FerryVmstate *const *s = vmstate->subsections; s && *s; s++) {
		const char *name = (*s)->name ? (*s)->name : "";

		if (++n > FERRY_VMSTATE_SUBSECTIONS_MAX)
			return refuse(error, vmstate, NULL, "more than %u subsections",
				      FERRY_VMSTATE_SUBSECTIONS_MAX);
		if (strncmp(name, vmstate->name, len) || name[len] != '/' || !name[len + 1])
			return refuse(error, vmstate, NULL,
				      "its subsection \"%s\" must be named \"%s/...\"", name,
				      vmstate->name);
		for (const FerryVmstate *const *t = vmstate->subsections; t < s; t++) {
			if (g_str_equal((*t)->name, name))
				return refuse(error, vmstate, NULL, "two subsections \"%s\"", name);
		}
	}
	return TRUE;
}

static gboolean check_header(const FerryVmstate *vmstate, GError **error)
{
	if (!vmstate->name || !*vmstate->name || strlen(vmstate->name) > 255 ||
	    !g_utf8_validate(vmstate->name, -1, NULL)) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_INVALID,
				    "a description's name must be UTF-8 of 1 to 255 bytes");
		return FALSE;
	}
	if (vmstate->minimum_version_id > vmstate->version_id)
		return refuse(error, vmstate, NULL,
			      "its minimum version %u is above its version %u",
			      vmstate->minimum_version_id, vmstate->version_id);
	if (!vmstate->fields)
		return refuse(error, vmstate, NULL, "it has no list of fields");
	return TRUE;
}

/* @elements: the elements of all arrays below, nested ones multiplied, are added. */
static gboolean check_description(const FerryVmstate *vmstate, const Level *up, guint64 *elements,
				  GError **error)
{
	Level level = { up, vmstate, up ? up->depth + 1 : 1 };

	if (!check_header(vmstate, error))
		return FALSE;
	if (level.depth > FERRY_VMSTATE_NESTING_MAX)
		return refuse(error, vmstate, NULL, "nested more than %u deep",
			      FERRY_VMSTATE_NESTING_MAX);
	if (!check_subsection_names(vmstate, error) || !check_not_mistaken(vmstate, up, error))
		return FALSE;
	for (const FerryVmstateField *f = vmstate->fields; f->name; f++) {
		if (!check_field(vmstate, f, &level, elements, error))
			return FALSE;
	}
	for (const FerryVmstate *const *s = vmstate->subsections; s && *s; s++) {
		if (!check_description(*s, &level, elements, error))
			return FALSE;
	}
	return TRUE;
}

gboolean ferry_vmstate_check(const FerryVmstate *vmstate, GError **error)
{
	guint64 elements = 0;

	return check_description(vmstate, NULL, &elements, error);
}
