/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>

/*
 * Cuts what a QMP client sends into JSON values: several in one write, one in many writes. What is
 * no JSON gives one error; reading goes on at the next line, or at the next bracket where that can
 * be told.
 */
typedef struct FerryQmpSplitter FerryQmpSplitter;

/* Bounds on one value: bytes, and objects and arrays inside each other. */
#define FERRY_QMP_VALUE_MAX (1u << 20)
#define FERRY_QMP_DEPTH_MAX 64u

typedef enum {
	FERRY_QMP_SPLIT_MORE,  /* nothing whole yet: push more bytes */
	FERRY_QMP_SPLIT_VALUE, /* *value is the next one; the caller owns it */
	FERRY_QMP_SPLIT_BAD,   /* @error says why; what was bad is gone */
} FerryQmpSplit;

FerryQmpSplitter *ferry_qmp_splitter_new(void);
void ferry_qmp_splitter_free(FerryQmpSplitter *splitter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryQmpSplitter, ferry_qmp_splitter_free)

void ferry_qmp_splitter_push(FerryQmpSplitter *splitter, const char *data, size_t len);

/* Call until it answers MORE after each push, so that what is kept stays bounded. */
FerryQmpSplit ferry_qmp_splitter_next(FerryQmpSplitter *splitter, JsonNode **value, GError **error);
