/* SPDX-License-Identifier: BSD-2-Clause */
#include "doctor.h"
#include "commands.h"
#include "common.h"

#include <json-glib/json-glib.h>
#include <stdio.h>
#include <unistd.h>
#include <ferry/rdma.h>

static const FerryCliHelp help = {
	.command = "doctor",
	.summary = "Shows what this host can do for migration, and a remedy for what it cannot.",
	.description =
		"Examples:\n"
		"  ferry doctor\n"
		"  ferry doctor --peer 192.0.2.7:4444\n\n"
		"Exit status: 0 a guest can be migrated from here, 1 it cannot, 2 wrong usage.",
};

static const struct {
	const char *name;
	const char *colour;
} verdicts[] = {
	[FERRY_CHECK_OK] = { "ok", "\033[32m" },
	[FERRY_CHECK_WARN] = { "warn", "\033[33m" },
	[FERRY_CHECK_MISSING] = { "missing", "\033[31m" },
};

static void check_free(gpointer data)
{
	FerryCheck *check = data;

	g_free(check->finding);
	g_free(check->remedy);
	g_free(check);
}

FerryCheck *ferry_doctor_add(FerryDoctor *doctor, const char *name, FerryCheckVerdict verdict,
			     char *finding, const char *remedy)
{
	FerryCheck *check = g_new0(FerryCheck, 1);

	check->name = name;
	check->verdict = verdict;
	check->finding = finding;
	check->remedy = g_strdup(remedy);
	g_ptr_array_add(doctor->checks, check);
	return check;
}

char *ferry_doctor_read_line(const char *path)
{
	char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return NULL;
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static void print_table(const FerryDoctor *doctor)
{
	gboolean colour = isatty(STDOUT_FILENO) && !g_getenv("NO_COLOR") &&
			  g_strcmp0(g_getenv("TERM"), "dumb");

	for (guint i = 0; i < doctor->checks->len; i++) {
		const FerryCheck *check = doctor->checks->pdata[i];

		printf("%-16s %s%-7s%s  %s\n", check->name,
		       colour ? verdicts[check->verdict].colour : "", verdicts[check->verdict].name,
		       colour ? "\033[0m" : "", check->finding);
		if (check->remedy)
			printf("%-16s %-7s  -> %s\n", "", "", check->remedy);
	}
}

static void print_json(const FerryDoctor *doctor)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_ARRAY);
	JsonArray *list = json_array_new();
	g_autofree char *text = NULL;

	for (guint i = 0; i < doctor->checks->len; i++) {
		const FerryCheck *check = doctor->checks->pdata[i];
		JsonObject *object = json_object_new();

		json_object_set_string_member(object, "check", check->name);
		json_object_set_string_member(object, "verdict", verdicts[check->verdict].name);
		json_object_set_boolean_member(object, "required", check->required);
		json_object_set_string_member(object, "finding", check->finding);
		if (check->remedy)
			json_object_set_string_member(object, "remedy", check->remedy);
		json_array_add_object_element(list, object);
	}
	json_node_take_array(node, list);
	text = json_to_string(node, TRUE);
	puts(text);
}

static int exit_status(const FerryDoctor *doctor)
{
	for (guint i = 0; i < doctor->checks->len; i++) {
		const FerryCheck *check = doctor->checks->pdata[i];

		if (check->required && check->verdict == FERRY_CHECK_MISSING)
			return FERRY_EXIT_FAILED;
	}
	return FERRY_EXIT_DONE;
}

int ferry_cli_doctor(int argc, char **argv)
{
	g_autofree char *peer = NULL;
	gboolean json = FALSE;
	const GOptionEntry entries[] = {
		{ "peer", 0, 0, G_OPTION_ARG_STRING, &peer, "Try a TCP connection too",
		  "HOST:PORT" },
		{ "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print a JSON array", NULL },
		{ NULL },
	};
	g_autoptr(GPtrArray) checks = g_ptr_array_new_with_free_func(check_free);
	g_autoptr(GPtrArray) ports = NULL;
	FerryDoctor doctor = { checks };
	char *why = NULL;

	if (!ferry_cli_parse(&help, entries, &argc, &argv, 0, 0))
		return FERRY_EXIT_USAGE;
	ferry_doctor_host(&doctor);
	ferry_doctor_memory(&doctor);
	ports = ferry_rdma_list_ports(&why);
	ferry_doctor_rdma(&doctor, ports, why);
	if (peer)
		ferry_doctor_peer(&doctor, peer);
	if (json)
		print_json(&doctor);
	else
		print_table(&doctor);
	return exit_status(&doctor);
}
