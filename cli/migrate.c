/* SPDX-License-Identifier: BSD-2-Clause */
#include "commands.h"
#include "common.h"
#include "postcopy-option.h"
#include "progress.h"
#include "rehearsal.h"
#include "report.h"
#include "set-options.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <ferry/error.h>
#include <ferry/rehearsal.h>
#include <ferry/transport.h>

#define POLL_MS 200
/* How long a hand-over may be in doubt before we stop watching: the source asks again by itself. */
#define DOUBT_US (5 * G_USEC_PER_SEC)

static const FerryCliHelp help = {
	.command = "migrate",
	.operands = "URI",
	.summary = "Moves the guest of a monitor to URI and shows how it goes.",
	.description =
		"URI is where another monitor waits for a guest: rdma:HOST:PORT (pages by RDMA where "
		"both\nsides can, else by TCP, with a warning), tcp:HOST:PORT, unix:PATH, fd:N (a "
		"descriptor of this\nprocess), exec:COMMAND or file:PATH. --set takes every capability "
		"(on, off) and parameter\nby its QMP name. Ctrl-C cancels: the guest stays.\n\n"
		"--postcopy switches the guest over before its memory, which follows: one that writes "
		"faster\nthan the link carries moves too. AFTER is when: 2s, 500ms, or round:3; at once "
		"without it.\nFrom the switch on it cannot be cancelled, and a link that breaks pauses "
		"it;\n--resume goes on where it was, to the same or another URI of the "
		"destination.\n\n"
		"--dry-run rehearses for SECONDS (3): pages go as they would, nothing moves, and the "
		"guest is\nneither stopped nor slowed down. It says how long the migration would take, "
		"or what would\nmake it possible.\n\n"
		"Examples:\n"
		"  ferry migrate --qmp unix:/tmp/a.qmp tcp:192.0.2.7:4444\n"
		"  ferry migrate --qmp unix:/tmp/a.qmp --set rdma-pin-all=on rdma:192.0.2.7:4444\n"
		"  ferry migrate --qmp unix:/tmp/a.qmp --set max-bandwidth=500M --set "
		"downtime-limit=50 tcp:b:4444\n"
		"  ferry migrate --qmp unix:/tmp/a.qmp --postcopy=2s rdma:192.0.2.7:4444\n"
		"  ferry migrate --qmp unix:/tmp/a.qmp --dry-run=10 tcp:192.0.2.7:4444\n"
		"  ferry migrate --qmp unix:/tmp/a.qmp --resume tcp:192.0.2.7:4444\n"
		"  ferry migrate --qmp unix:/tmp/a.qmp --json file:/tmp/guest.stream\n\n"
		"Exit status: 0 the guest moved; 1 it did not, and still runs at the source; 2 wrong "
		"usage;\n3 the hand-over is in doubt, or the guest runs there and its memory is not "
		"all there; 4 --dry-run: it would not converge.",
};

typedef struct {
	char *address;
	char **settings;
	gboolean json;
	gboolean quiet;
	gboolean resume;
	char *postcopy_after;
	FerryCliPostcopy postcopy;
	char *dry_run;
	guint rehearse_seconds; /* 0: in earnest */
	const char *uri;
} Options;

static void options_clear(Options *options)
{
	g_free(options->address);
	g_strfreev(options->settings);
	g_free(options->postcopy_after);
	g_free(options->dry_run);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = 1;
}

/* The first Ctrl-C cancels the migration, the second ends us. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* The URI for the monitor: a descriptor of ours is passed on and gets a name. */
static char *monitor_uri(FerryQmpClient *client, const char *uri, GError **error)
{
	g_autofree char *name = NULL;
	guint64 fd;

	if (!g_str_has_prefix(uri, "fd:") ||
	    !g_ascii_string_to_unsigned(uri + strlen("fd:"), 10, 0, G_MAXINT, &fd, NULL))
		return g_strdup(uri);
	name = g_strdup_printf("ferry-migrate-%d", (int)getpid());
	return ferry_qmp_client_pass_fd(client, name, fd, error) ? g_strconcat("fd:", name, NULL)
								 : NULL;
}

static gboolean start(FerryQmpClient *client, const Options *options, GError **error)
{
	const char *command = options->rehearse_seconds ? "ferry-rehearse" : "migrate";
	g_autofree char *there = monitor_uri(client, options->uri, error);
	g_autoptr(JsonNode) answer = NULL;
	JsonObject *arguments;

	if (!there)
		return FALSE;
	arguments = json_object_new();
	json_object_set_string_member(arguments, "uri", there);
	if (options->rehearse_seconds)
		json_object_set_int_member(arguments, "seconds", options->rehearse_seconds);
	if (options->resume)
		json_object_set_boolean_member(arguments, "resume", TRUE);
	answer = ferry_qmp_client_call(client, command, arguments, error);
	return answer != NULL;
}

/* Whether there is nothing more to wait for. *@doubted: since when the hand-over is in doubt, 0 for
 * not. */
static gboolean is_settled(const char *status, gint64 *doubted)
{
	static const char *const ends[] = { "none",      "completed",       "failed",
					    "cancelled", "postcopy-paused", NULL };
	gboolean lost = g_str_equal(status, "handover-lost");

	if (!lost)
		*doubted = 0;
	else if (!*doubted)
		*doubted = g_get_monotonic_time();
	return g_strv_contains(ends, status) ||
	       (lost && g_get_monotonic_time() - *doubted > DOUBT_US);
}

static gboolean cancel(FerryQmpClient *client, const FerryCliMigration *migration, GError **error)
{
	g_autoptr(JsonNode) answer = NULL;

	interrupted = 0;
	if (g_str_has_prefix(migration->status, "postcopy")) {
		fputs("\rferry migrate: the guest runs there already, this cannot be cancelled; "
		      "Ctrl-C again stops watching\n",
		      stderr);
		return TRUE;
	}
	answer = ferry_qmp_client_call(client, "migrate_cancel", NULL, error);
	return answer != NULL;
}

/* Watches until the end; the last query-migrate answer, the caller's, or NULL if the monitor is
 * lost. */
static JsonNode *follow(FerryQmpClient *client, FerryCliProgress *progress,
			FerryCliPostcopy *postcopy, GError **error)
{
	gint64 begin = g_get_monotonic_time(), doubted = 0;

	for (;;) {
		g_autoptr(JsonNode)
			answer = ferry_qmp_client_call(client, "query-migrate", NULL, error);
		g_autoptr(JsonNode) event = NULL;
		g_autoptr(GError) why = NULL;
		FerryCliMigration migration;
		gint64 running_ms = (g_get_monotonic_time() - begin) / 1000;

		if (!answer || !ferry_cli_migration_read(answer, &migration))
			return NULL;
		if (is_settled(migration.status, &doubted))
			return g_steal_pointer(&answer);
		ferry_cli_progress_show(progress, &migration);
		if (!ferry_cli_postcopy_step(postcopy, client, &migration, running_ms, error))
			return NULL;
		event = ferry_qmp_client_wait(
			client, ferry_cli_postcopy_wait_ms(postcopy, running_ms, POLL_MS), &why);
		if (why) {
			g_propagate_error(error, g_steal_pointer(&why));
			return NULL;
		}
		if (interrupted && !cancel(client, &migration, error))
			return NULL;
	}
}

/* Says how the guest is now that it did not move. */
static void say_where(FerryQmpClient *client)
{
	g_autoptr(JsonNode) answer = ferry_qmp_client_call(client, "query-status", NULL, NULL);
	JsonObject *object = answer && JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer)
								      : NULL;

	if (!object)
		fputs("What the guest does is not known: the monitor does not answer.\n", stderr);
	else if (json_object_get_boolean_member_with_default(object, "running", FALSE))
		fputs("The guest runs on at the source.\n", stderr);
	else
		fprintf(stderr, "The guest is at the source, %s.\n",
			json_object_get_string_member_with_default(object, "status", "stopped"));
}

/* What was agreed, if the pages went by RDMA, becomes a member of @answer. */
static void add_rdma(FerryQmpClient *client, JsonNode *answer)
{
	FerryCliMigration migration;
	JsonNode *rdma = NULL;

	ferry_cli_migration_read(answer, &migration);
	if (migration.transport && g_str_equal(migration.transport, "rdma"))
		rdma = ferry_qmp_client_call(client, "query-rdma", NULL, NULL);
	if (rdma)
		json_object_set_member(json_node_get_object(answer), "rdma", rdma);
}

static int in_doubt(const FerryCliMigration *migration, const Options *options)
{
	ferry_cli_fail("migrate",
		       "the hand-over to %s is in doubt: %s\nLook whether the guest runs there. "
		       "Then decide:\n  ferry ctl --qmp %s ferry-resolve "
		       "action=retry|run-here|discard",
		       options->uri,
		       migration->error_desc ? migration->error_desc : "the link died",
		       options->address);
	return FERRY_EXIT_IN_DOUBT;
}

static int paused(const FerryCliMigration *migration, const Options *options)
{
	ferry_cli_fail(
		"migrate",
		"the guest is at %s, and not all of its memory: %s\nWhat is missing is kept "
		"here: end neither monitor. When the link is whole again:\n  ferry migrate --qmp "
		"%s --resume %s\nWhere the destination cannot be reached there "
		"any more, first at the destination:\n  ferry ctl --qmp unix:PATH "
		"migrate-recover uri=URI",
		options->uri, migration->error_desc ? migration->error_desc : "the link died",
		options->address, options->uri);
	return FERRY_EXIT_IN_DOUBT;
}

static int conclude(FerryQmpClient *client, JsonNode *answer, const Options *options)
{
	FerryCliMigration migration;
	JsonObject *rehearsal;

	add_rdma(client, answer);
	ferry_cli_migration_read(answer, &migration);
	if (migration.fallback && !options->quiet)
		fprintf(stderr, "ferry migrate: warning: the pages went by %s, not by RDMA: %s\n",
			migration.transport ? migration.transport : "the stream",
			migration.fallback);
	if (options->json)
		ferry_cli_report_json(answer, NULL, NULL);
	rehearsal = ferry_cli_rehearsal_find(answer);
	if (rehearsal) {
		if (!options->json && !options->quiet)
			ferry_cli_rehearsal_report(rehearsal, options->uri, migration.transport);
		return ferry_cli_rehearsal_status(rehearsal);
	}
	if (g_str_equal(migration.status, "completed")) {
		if (!options->json && !options->quiet)
			ferry_cli_report(&migration, options->uri);
		return FERRY_EXIT_DONE;
	}
	if (g_str_equal(migration.status, "handover-lost"))
		return in_doubt(&migration, options);
	if (g_str_equal(migration.status, "postcopy-paused"))
		return paused(&migration, options);
	if (g_str_equal(migration.status, "cancelled"))
		ferry_cli_fail("migrate", "cancelled");
	else
		ferry_cli_fail("migrate", "the %s to %s failed: %s",
			       options->rehearse_seconds ? "rehearsal" : "migration", options->uri,
			       migration.error_desc ? migration.error_desc : "no reason was given");
	if (!options->quiet)
		say_where(client);
	return FERRY_EXIT_FAILED;
}

/* The monitor went away while the guest was moving, so nobody here knows where it is. */
static int lost(const Options *options, const GError *error)
{
	const char *why = error ? error->message : "the monitor's answer is not QMP's";

	if (options->json)
		ferry_cli_report_json(NULL, "handover-lost", why);
	ferry_cli_fail("migrate",
		       "lost sight of the migration: %s\nThe guest may be on either side: look.",
		       why);
	return FERRY_EXIT_IN_DOUBT;
}

static int refused(const Options *options, const GError *error)
{
	if (options->json)
		ferry_cli_report_json(NULL, "failed", error->message);
	return ferry_cli_fail("migrate", "%s", error->message);
}

static int watch(FerryQmpClient *client, Options *options)
{
	FerryCliProgressStyle style = ferry_cli_progress_style();
	FerryCliProgress *progress;
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) answer = NULL;
	FerryCliMigration migration;

	if (options->quiet || (options->json && style == FERRY_CLI_PROGRESS_ROUNDS))
		style = FERRY_CLI_PROGRESS_NONE;
	progress = ferry_cli_progress_new(style);
	answer = follow(client, progress, &options->postcopy, &error);
	if (answer)
		ferry_cli_migration_read(answer, &migration);
	ferry_cli_progress_finish(progress, answer ? &migration : NULL);
	return answer ? conclude(client, answer, options) : lost(options, error);
}

/* Options with a value that may be left out want a callback, which could not know the Options: so
 * it is put in. */
static void complete_values(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (g_str_equal(argv[i], "--postcopy"))
			argv[i] = (char *)"--postcopy=now";
		else if (g_str_equal(argv[i], "--dry-run"))
			argv[i] = (char *)"--dry-run=" G_STRINGIFY(FERRY_REHEARSAL_SECONDS);
}

/* FALSE after it said what is wrong. */
static gboolean check_options(Options *options)
{
	g_autoptr(GError) error = NULL;

	if (!options->address)
		return ferry_cli_usage("migrate", "--qmp unix:PATH is missing"), FALSE;
	if (options->resume && options->postcopy_after)
		return ferry_cli_usage("migrate", "--resume goes on with what is switched over: "
						  "leave --postcopy out"),
		       FALSE;
	if (options->dry_run && (options->resume || options->postcopy_after))
		return ferry_cli_usage("migrate", "--dry-run moves nothing: leave --postcopy and "
						  "--resume out"),
		       FALSE;
	if (ferry_transport_find(ferry_transports(), options->uri, &error) &&
	    ferry_cli_postcopy_parse(options->postcopy_after, &options->postcopy, &error) &&
	    (!options->dry_run ||
	     ferry_cli_rehearsal_parse(options->dry_run, &options->rehearse_seconds, &error)))
		return TRUE;
	return ferry_cli_usage("migrate", "%s", error->message), FALSE;
}

int ferry_cli_migrate(int argc, char **argv)
{
	g_auto(Options) options = { NULL };
	const GOptionEntry entries[] = {
		{ "qmp", 0, 0, G_OPTION_ARG_STRING, &options.address,
		  "The source monitor's QMP socket", "unix:PATH" },
		{ "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &options.settings,
		  "Set a capability or parameter first", "NAME=VALUE" },
		{ "postcopy", 0, 0, G_OPTION_ARG_STRING, &options.postcopy_after,
		  "Switch the guest over first, its memory follows", "AFTER" },
		{ "dry-run", 0, 0, G_OPTION_ARG_STRING, &options.dry_run,
		  "Only rehearse, for SECONDS (3), and say how it would go", "SECONDS" },
		{ "resume", 0, 0, G_OPTION_ARG_NONE, &options.resume,
		  "Go on with one that was switched over, and paused", NULL },
		{ "json", 0, 0, G_OPTION_ARG_NONE, &options.json,
		  "Print the result as one JSON object", NULL },
		{ "quiet", 'q', 0, G_OPTION_ARG_NONE, &options.quiet,
		  "Show no progress and no report", NULL },
		{ NULL },
	};
	g_autoptr(FerryQmpClient) client = NULL;
	g_autoptr(GError) error = NULL;

	complete_values(argc, argv);
	if (!ferry_cli_parse(&help, entries, &argc, &argv, 1, 1))
		return FERRY_EXIT_USAGE;
	options.uri = argv[1];
	if (!check_options(&options))
		return FERRY_EXIT_USAGE;
	client = ferry_qmp_client_new(options.address, &error);
	if (client && ferry_cli_apply_settings(client, options.settings, &error) &&
	    ferry_cli_postcopy_enable(&options.postcopy, client, &error)) {
		catch_signals();
		if (start(client, &options, &error))
			return watch(client, &options);
	}
	if (g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID))
		return ferry_cli_usage("migrate", "%s", error->message);
	return refused(&options, error);
}
