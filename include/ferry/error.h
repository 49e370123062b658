/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/*
 * Every fallible function of libferry takes a GError ** as its last argument and fills it in the
 * domain FERRY_ERROR, sorted by what the caller can do about it. A message says what happened,
 * where, and what to do; it is made once, where the cause is known.
 */
#define FERRY_ERROR (g_quark_from_static_string("ferry-error-quark"))

typedef enum {
	FERRY_ERROR_PEER,      /* the other side broke the protocol: do not retry */
	FERRY_ERROR_LINK,      /* the link died: the source runs on, a retry is safe */
	FERRY_ERROR_MISMATCH,  /* the two guests differ: fix the configuration */
	FERRY_ERROR_STREAM,    /* the stream's bytes are not what the format allows */
	FERRY_ERROR_DEVICE,    /* a device could not be saved or loaded */
	FERRY_ERROR_NOCONV,    /* the guest dirties RAM faster than the link drains it */
	FERRY_ERROR_NOSUPP,    /* this host or peer lacks something: use the named remedy */
	FERRY_ERROR_INVALID,   /* a value given by the caller is out of range or malformed */
	FERRY_ERROR_STATE,     /* not now: the object's state does not allow it */
	FERRY_ERROR_CANCELLED, /* somebody asked for it to stop */
	FERRY_ERROR_IO,        /* a system call on a local file or device failed */
} FerryErrorCode;

G_END_DECLS
