/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "qmp-arguments.h"
#include "qmp-events.h"
#include "qmp-fds.h"

#include <ferry/qmp.h>

/* What a command works on. */
typedef struct {
	FerryVm *vm;
	FerrySource *source;
	FerryDestination *destination; /* NULL for a monitor that never takes a guest in */
	FerryQmpEvents *events;
	FerryQmpFds *fds; /* of the client that asks */
} FerryQmpCall;

/* @arguments fits the command's table; NULL when the client sent none. Returns the answer (caller
 * owns), or NULL: without @error set for {}, with it for a GenericError. */
typedef JsonNode *(*FerryQmpHandler)(const FerryQmpCall *call, JsonObject *arguments,
				     GError **error);

typedef struct {
	const char *name;
	FerryQmpHandler run;
	const FerryQmpArgument *arguments;
} FerryQmpCommand;

/* The tables, each ended by a NULL name. */
extern const FerryQmpCommand ferry_qmp_guest_commands[];
extern const FerryQmpCommand ferry_qmp_migration_commands[];
extern const FerryQmpCommand ferry_qmp_settings_commands[];
extern const FerryQmpCommand ferry_qmp_older_commands[];

/* For commands that take nothing. */
extern const FerryQmpArgument ferry_qmp_no_arguments[];

/* query-migrate's answer for @status: a source's, or with @incoming a destination's, which counts
 * no pages. @blocked (the reasons, or NULL) is borrowed. */
JsonNode *ferry_qmp_migration_info(const FerryMigrationStatus *status, gboolean incoming,
				   char **blocked);

/* query-version's answer, also part of the greeting. */
JsonNode *ferry_qmp_version(void);

/* Makes a node that owns @object or @array. */
JsonNode *ferry_qmp_object_node(JsonObject *object);
JsonNode *ferry_qmp_array_node(JsonArray *array);

/* JSON has no number above G_MAXINT64 and none that is not finite: such values are capped, or 0. */
void ferry_qmp_set_number(JsonObject *object, const char *name, guint64 value);
void ferry_qmp_set_double(JsonObject *object, const char *name, double value);
