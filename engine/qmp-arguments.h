/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>
#include <ferry/error.h>

typedef enum {
	FERRY_QMP_STRING,
	FERRY_QMP_BOOLEAN,
	FERRY_QMP_INTEGER,
	FERRY_QMP_NUMBER, /* an integer is one too */
	FERRY_QMP_ARRAY,
	FERRY_QMP_OBJECT,
} FerryQmpType;

/* What a command takes under one name. A table of them ends with a NULL name. */
typedef struct {
	const char *name;
	FerryQmpType type;
	gboolean optional;
	const char *const *values; /* STRING: the only ones allowed, NULL-terminated; or NULL */
} FerryQmpArgument;

/**
 * Checks @object against @table: what is missing, what has the wrong type, what is not known.
 * @object: may be NULL: no arguments.
 * @where: put before the names in the messages, for example "capabilities[0]."; or "".
 * FERRY_ERROR_INVALID, worded as QEMU words it.
 */
gboolean ferry_qmp_check_arguments(JsonObject *object, const FerryQmpArgument *table,
				   const char *where, GError **error);

/* The same for one value. */
gboolean ferry_qmp_check_value(JsonNode *value, const FerryQmpArgument *argument, const char *where,
			       GError **error);

/* Optional arguments of a checked object, which may be NULL. */
gboolean ferry_qmp_get_boolean(JsonObject *object, const char *name, gboolean otherwise);
const char *ferry_qmp_get_string(JsonObject *object, const char *name);
