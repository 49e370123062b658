/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/dirty.h>

#include <string.h>

/* Best first. Soft-dirty bits are not among them: they are sound only with the embedder's help. */
static const struct {
	const char *name;
	FerryDirtySource *(*create)(GError **error);
} kinds[] = {
	{ "wp-async", ferry_dirty_source_wp_async },
	{ "wp-fault", ferry_dirty_source_wp_fault },
};

static FerryDirtySource *create_best(GError **error)
{
	g_autoptr(GString) lacks = g_string_new(NULL);

	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
		g_autoptr(GError) local = NULL;
		FerryDirtySource *source = kinds[i].create(&local);

		if (source)
			return source;
		g_string_append_printf(lacks, "%s%s: %s", i ? "; " : "", kinds[i].name,
				       local->message);
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "no dirty source works here: %s",
		    lacks->str);
	return NULL;
}

FerryDirtySource *ferry_dirty_source_new(const char *name, GError **error)
{
	if (!name || strcmp(name, "auto") == 0)
		return create_best(error);
	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
		if (strcmp(name, kinds[i].name) == 0)
			return kinds[i].create(error);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "dirty source '%s' cannot be made by name; use auto, wp-async or wp-fault",
		    name);
	return NULL;
}

void ferry_dirty_source_free(FerryDirtySource *source)
{
	if (!source)
		return;
	source->ops->stop(source);
	source->ops->free(source);
}
