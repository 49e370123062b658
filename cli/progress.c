/* SPDX-License-Identifier: BSD-2-Clause */
#include "progress.h"
#include "common.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_MIN 8u
#define BAR_MAX 32u

struct FerryCliProgress {
	FerryCliProgressStyle style;
	guint rounds_shown;
	char *status_shown; /* ROUNDS: the last state that had a line */
};

/* What a state means to somebody who watches. */
static const char *phase(const char *status)
{
	static const char *const phases[][2] = {
		{ "setup", "connecting" },
		{ "active", "copying" },
		{ "pre-switchover", "waiting" },
		{ "device", "switching" },
		{ "handover", "handing over" },
		{ "handover-lost", "in doubt" },
		{ "postcopy-active", "following" },
		{ "postcopy-paused", "paused" },
		{ "postcopy-recover", "reconnecting" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(phases); i++)
		if (g_str_equal(phases[i][0], status))
			return phases[i][1];
	return status;
}

FerryCliProgressStyle ferry_cli_progress_style(void)
{
	const char *term = g_getenv("TERM");

	if (!isatty(STDERR_FILENO) || !term || !*term || g_str_equal(term, "dumb"))
		return FERRY_CLI_PROGRESS_ROUNDS;
	return FERRY_CLI_PROGRESS_LINE;
}

FerryCliProgress *ferry_cli_progress_new(FerryCliProgressStyle style)
{
	FerryCliProgress *progress = g_new0(FerryCliProgress, 1);

	progress->style = style;
	return progress;
}

static guint terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
		return 80;
	return size.ws_col;
}

static void draw_bar(GString *line, double fraction, guint cells, gboolean utf8)
{
	static const char *const eighths[] = { " ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█" };
	guint filled = fraction * cells * 8;

	g_string_append(line, utf8 ? "▕" : "[");
	for (guint i = 0; i < cells; i++) {
		guint part = MIN(filled - MIN(filled, i * 8), 8);

		g_string_append(line, utf8 ? eighths[part] : part >= 4 ? "#" : ".");
	}
	g_string_append(line, utf8 ? "▏" : "]");
}

/* What follows the bar, the most wanted first. */
static GPtrArray *details(const FerryCliMigration *migration)
{
	GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *rate = ferry_cli_format_bytes(migration->rate);
	g_autofree char *dirty = ferry_cli_format_bytes(migration->dirty_rate);

	g_ptr_array_add(texts, g_strdup_printf("  %8s/s", rate));
	if (migration->followed > 0) {
		g_autofree char *remaining = ferry_cli_format_bytes(migration->remaining);

		g_ptr_array_add(texts, g_strdup_printf("  remaining %8s", remaining));
		g_ptr_array_add(texts, g_strdup_printf("  requests %" G_GINT64_FORMAT,
						       migration->requests));
		return texts;
	}
	g_ptr_array_add(texts, g_strdup_printf("  round %-3" G_GINT64_FORMAT, migration->round));
	g_ptr_array_add(texts, g_strdup_printf("  dirtied %8s/s", dirty));
	if (migration->throttle)
		g_ptr_array_add(texts, g_strdup_printf("  throttled %" G_GINT64_FORMAT " %%",
						       migration->throttle));
	if (migration->expected_ms >= 0) {
		g_autofree char *expected = ferry_cli_format_ms(migration->expected_ms);

		g_ptr_array_add(texts, g_strdup_printf("  downtime ~%s", expected));
	}
	return texts;
}

char *ferry_cli_progress_line(const FerryCliMigration *migration, guint width, gboolean utf8)
{
	double fraction = migration->total > 0 ? 1 - migration->remaining / migration->total : 0;
	g_autoptr(GPtrArray) texts = details(migration);
	GString *line = g_string_new(NULL);
	guint used = 0, cells, shown;

	fraction = CLAMP(fraction, 0, 1);
	g_string_append_printf(line, "%-10s ", phase(migration->status));
	used = line->len + 2 + strlen("  100 %");
	for (shown = 0; shown < texts->len; shown++) {
		guint next = strlen(texts->pdata[shown]);

		if (used + next + BAR_MIN > width)
			break;
		used += next;
	}
	cells = MIN(width - MIN(width, used), BAR_MAX);
	if (cells >= BAR_MIN)
		draw_bar(line, fraction, cells, utf8);
	g_string_append_printf(line, "  %3.0f %%", fraction * 100);
	for (guint i = 0; i < shown; i++)
		g_string_append(line, texts->pdata[i]);
	if (cells < BAR_MIN && line->len > width)
		g_string_truncate(line, width);
	return g_string_free(line, FALSE);
}

static void draw(const FerryCliMigration *migration)
{
	/* A full line would wrap on some terminals, and so would the ^C that the terminal
	 * echoes. */
	g_autofree char *line = ferry_cli_progress_line(
		migration, MAX(terminal_width(), BAR_MIN) - 3, g_get_charset(NULL));

	fprintf(stderr, "\r%s\033[K", line);
	fflush(stderr);
}

static void print_round(const FerryCliMigration *migration, guint index)
{
	g_autofree char *bytes = NULL;
	g_autofree char *time = NULL;
	g_autofree char *rate = NULL;
	FerryCliRound round;

	ferry_cli_migration_round(migration, index, &round);
	bytes = ferry_cli_format_bytes(round.bytes);
	time = ferry_cli_format_ms(round.seconds * 1000);
	rate = ferry_cli_format_bytes(round.seconds > 0 ? round.bytes / round.seconds : 0);
	fprintf(stderr, "round %" G_GINT64_FORMAT ": %" G_GINT64_FORMAT " pages", round.round,
		round.pages);
	if (round.zero_pages)
		fprintf(stderr, " (%" G_GINT64_FORMAT " zero)", round.zero_pages);
	fprintf(stderr, ", %s in %s, %s/s\n", bytes, time, rate);
}

/* Prints the rounds that are complete: the last one is once the next began, or at the end. */
static void print_rounds(FerryCliProgress *progress, const FerryCliMigration *migration,
			 gboolean end)
{
	guint n = ferry_cli_migration_n_rounds(migration);

	while (progress->rounds_shown + !end < n)
		print_round(migration, progress->rounds_shown++);
}

void ferry_cli_progress_show(FerryCliProgress *progress, const FerryCliMigration *migration)
{
	if (progress->style == FERRY_CLI_PROGRESS_LINE) {
		draw(migration);
	} else if (progress->style == FERRY_CLI_PROGRESS_ROUNDS) {
		print_rounds(progress, migration, FALSE);
		if (g_strcmp0(progress->status_shown, migration->status)) {
			fprintf(stderr, "%s\n", phase(migration->status));
			g_free(progress->status_shown);
			progress->status_shown = g_strdup(migration->status);
		}
	}
}

void ferry_cli_progress_finish(FerryCliProgress *progress, const FerryCliMigration *migration)
{
	if (progress->style == FERRY_CLI_PROGRESS_LINE)
		fputs("\r\033[K", stderr);
	else if (progress->style == FERRY_CLI_PROGRESS_ROUNDS && migration)
		print_rounds(progress, migration, TRUE);
	fflush(stderr);
	g_free(progress->status_shown);
	g_free(progress);
}
