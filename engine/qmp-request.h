/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>
#include <ferry/error.h>

/* The envelope of QMP: requests in, answers and greeting out. */
typedef struct {
	const char *execute;   /* the command; borrowed from the value, as the rest is */
	JsonObject *arguments; /* NULL when there are none */
	JsonNode *id;          /* any value that the answer must carry; NULL when there is none */
} FerryQmpRequest;

/* Takes @value apart. *@request holds the id also on failure, so that the error can carry it. */
gboolean ferry_qmp_request_parse(JsonNode *value, FerryQmpRequest *request, GError **error);

/* {"return": @result}; @result is taken over, NULL means {}. @id is borrowed. */
JsonNode *ferry_qmp_answer(JsonNode *result, JsonNode *id);

/* {"error": {"class", "desc"}}. */
JsonNode *ferry_qmp_error(const char *class, const char *desc, JsonNode *id);
#define FERRY_QMP_GENERIC "GenericError"
#define FERRY_QMP_NOT_FOUND "CommandNotFound"

JsonNode *ferry_qmp_greeting(void);
