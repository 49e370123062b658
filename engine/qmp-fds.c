/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-fds.h"

#include <unistd.h>

struct FerryQmpFds {
	GArray *unnamed;   /* of int */
	GHashTable *named; /* name -> GINT_TO_POINTER(descriptor) */
};

static void close_value(gpointer fd)
{
	close(GPOINTER_TO_INT(fd));
}

FerryQmpFds *ferry_qmp_fds_new(void)
{
	FerryQmpFds *fds = g_new0(FerryQmpFds, 1);

	fds->unnamed = g_array_new(FALSE, FALSE, sizeof(int));
	fds->named = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, close_value);
	return fds;
}

static void close_unnamed(FerryQmpFds *fds)
{
	for (guint i = 0; i < fds->unnamed->len; i++)
		close(g_array_index(fds->unnamed, int, i));
	g_array_set_size(fds->unnamed, 0);
}

void ferry_qmp_fds_free(FerryQmpFds *fds)
{
	if (!fds)
		return;
	close_unnamed(fds);
	g_array_unref(fds->unnamed);
	g_hash_table_unref(fds->named);
	g_free(fds);
}

void ferry_qmp_fds_offer(FerryQmpFds *fds, const int *passed, int n)
{
	close_unnamed(fds);
	g_array_append_vals(fds->unnamed, passed, n);
}

gboolean ferry_qmp_fds_name(FerryQmpFds *fds, const char *name, GError **error)
{
	if (!fds->unnamed->len) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "No file descriptor supplied via SCM_RIGHTS");
		return FALSE;
	}
	/* fd:7 is descriptor 7 of the monitor, so a name must not look like a number. */
	if (!*name || g_ascii_isdigit(*name)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "Parameter 'fdname' expects a name not starting with a digit");
		return FALSE;
	}
	g_hash_table_replace(fds->named, g_strdup(name),
			     GINT_TO_POINTER(g_array_index(fds->unnamed, int, 0)));
	g_array_remove_index(fds->unnamed, 0);
	return TRUE;
}

gboolean ferry_qmp_fds_close(FerryQmpFds *fds, const char *name, GError **error)
{
	if (g_hash_table_remove(fds->named, name))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "File descriptor named '%s' not found",
		    name);
	return FALSE;
}

/* The name in "fd:NAME", or NULL. */
static const char *name_of(const char *uri)
{
	if (!g_str_has_prefix(uri, "fd:") || g_ascii_isdigit(uri[3]))
		return NULL;
	return uri + strlen("fd:");
}

char *ferry_qmp_fds_resolve(FerryQmpFds *fds, const char *uri, GError **error)
{
	const char *name = name_of(uri);
	gpointer fd;

	if (!name)
		return g_strdup(uri);
	if (g_hash_table_lookup_extended(fds->named, name, NULL, &fd))
		return g_strdup_printf("fd:%d", GPOINTER_TO_INT(fd));
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "File descriptor named '%s' not found: pass it with getfd first", name);
	return NULL;
}

void ferry_qmp_fds_forget(FerryQmpFds *fds, const char *uri)
{
	const char *name = name_of(uri);
	g_autofree gpointer key = NULL;

	if (name)
		g_hash_table_steal_extended(fds->named, name, &key, NULL);
}
