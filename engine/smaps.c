/* SPDX-License-Identifier: BSD-2-Clause */
#include "smaps.h"

#include <string.h>

/* A mapping's first line: "7f0000000000-7f0000200000 rw-s ...". */
static gboolean parse_addresses(const char *line, guint64 *start, guint64 *end)
{
	char *rest;

	*start = g_ascii_strtoull(line, &rest, 16);
	if (rest == line || *rest != '-')
		return FALSE;
	line = rest + 1;
	*end = g_ascii_strtoull(line, &rest, 16);
	return rest != line && *rest == ' ';
}

/* Whether the line is "NAME:", blanks and a number other than 0. */
static gboolean has_number(const char *line, const char *name)
{
	return g_str_has_prefix(line, name) && g_ascii_strtoull(line + strlen(name), NULL, 10);
}

/* Of "VmFlags: rd wr sh ...". */
static gboolean has_flag(const char *line, const char *flag)
{
	for (; *line && *line != '\n'; line++)
		if (line[0] == ' ' && line[1] == flag[0] && line[2] == flag[1])
			return TRUE;
	return FALSE;
}

/* The line of flags is a mapping's last; @huge is what came before it. */
static void add_mapping(FerrySmaps *smaps, const char *flags, gboolean huge)
{
	gboolean shared = has_flag(flags, "sh");

	smaps->shared |= shared;
	smaps->shared_huge |= shared && huge;
	smaps->hugetlb |= has_flag(flags, "ht");
	smaps->mergeable |= has_flag(flags, "mg");
	smaps->locked &= has_flag(flags, "lo");
}

gboolean ferry_smaps_find(const char *text, guint64 start, guint64 end, FerrySmaps *smaps)
{
	FerrySmaps sum = { .locked = TRUE };
	gboolean inside = FALSE, found = FALSE, huge = FALSE;
	guint64 from, to;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (parse_addresses(line, &from, &to)) {
			inside = from < end && start < to;
			huge = FALSE;
		} else if (inside && g_str_has_prefix(line, "VmFlags:")) {
			add_mapping(&sum, line, huge);
			found = TRUE;
		} else if (inside) {
			huge |= has_number(line, "THPeligible:") ||
				has_number(line, "ShmemPmdMapped:") ||
				has_number(line, "FilePmdMapped:");
		}
	}
	if (found)
		*smaps = sum;
	return found;
}
