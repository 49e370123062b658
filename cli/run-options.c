/* SPDX-License-Identifier: BSD-2-Clause */
#include "run-options.h"
#include "common.h"
#include "log.h"

static const FerryCliHelp help = {
	.command = "run",
	.operands = NULL,
	.summary =
		"Runs a reference guest: its memory checks itself, so that a migration can be proved.",
	.description =
		"The guest is a small program on KVM where that works, else threads of this process.\n"
		"--workload is idle, sweep:RATE, random:RATE or hotset:SIZE:RATE, RATE in MiB/s of "
		"memory\nwritten. With --incoming a guest is taken in (rdma:, tcp:, unix:, ...); contents "
		"and\nworkload come with it.\n"
		"The capability verify-ram is on. Ctrl-C or QMP's quit end the guest.\n\n"
		"Examples:\n"
		"  ferry run --ram 4G --workload random:200 --qmp unix:/tmp/a.qmp\n"
		"  ferry run --ram 4G --qmp unix:/tmp/b.qmp --incoming tcp:0.0.0.0:4444\n"
		"  ferry ctl --qmp unix:/tmp/b.qmp guest-check\n\n"
		"Exit status: 0 it ended by quit or a signal, 1 it could not run, 2 wrong usage.",
};

static gboolean parse_fill(const char *text, FerryGuestFill *fill)
{
	static const char *const names[] = {
		[FERRY_GUEST_FILL_PAGES] = "pages", [FERRY_GUEST_FILL_RANDOM] = "random",
		[FERRY_GUEST_FILL_ZERO] = "zero",   [FERRY_GUEST_FILL_SPARSE] = "sparse",
		[FERRY_GUEST_FILL_HOLES] = "holes",
	};

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		if (!g_str_equal(names[i], text))
			continue;
		*fill = i;
		return TRUE;
	}
	return FALSE;
}

/* The options that GOption has no type for, as text. */
typedef struct {
	char *ram;
	char *fill;
	char *seed;
	char *log;
	char *uuid;
	int beat_us;
	gboolean kvm;
	gboolean process;
	int vcpus;
} RawOptions;

static void raw_options_clear(RawOptions *raw)
{
	g_free(raw->ram);
	g_free(raw->fill);
	g_free(raw->seed);
	g_free(raw->log);
	g_free(raw->uuid);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RawOptions, raw_options_clear)

static gboolean usage(const char *what)
{
	ferry_cli_usage("run", "%s", what);
	return FALSE;
}

static gboolean parse_uuid(const char *text, guint8 uuid[16])
{
	if (!g_uuid_string_is_valid(text))
		return FALSE;
	for (guint i = 0; i < 16; i++) {
		text += *text == '-';
		uuid[i] = (guint8)(g_ascii_xdigit_value(text[0]) << 4 |
				   g_ascii_xdigit_value(text[1]));
		text += 2;
	}
	return TRUE;
}

static gboolean convert(FerryCliRunOptions *options, const RawOptions *raw)
{
	g_autoptr(GError) error = NULL;

	if (raw->kvm && raw->process)
		return usage("--kvm and --process exclude each other");
	if (raw->beat_us < 1)
		return usage("--beat-interval must be at least 1");
	if (raw->vcpus < 1)
		return usage("--vcpus must be at least 1");
	if (!ferry_cli_parse_size(raw->ram ? raw->ram : "256M", &options->guest.ram_size, &error))
		return usage(error->message);
	if (raw->log && !ferry_cli_log_set_level(raw->log))
		return usage("--log must be off, warning, message, info or debug");
	if (raw->fill && !parse_fill(raw->fill, &options->guest.fill))
		return usage("--fill must be pages, random, zero, sparse or holes");
	if (raw->seed && !g_ascii_string_to_unsigned(raw->seed, 10, 0, G_MAXUINT64,
						     &options->guest.seed, &error))
		return usage(error->message);
	if (raw->uuid && !parse_uuid(raw->uuid, options->uuid))
		return usage("--uuid must be like 6c9b9d1e-0c4f-4a8e-9a37-2f1b0e5d7c43");
	options->guest.uuid = raw->uuid ? options->uuid : NULL;
	options->guest.kind = raw->kvm       ? FERRY_GUEST_KVM
			      : raw->process ? FERRY_GUEST_PROCESS
					     : FERRY_GUEST_AUTO;
	options->guest.vcpus = raw->vcpus;
	options->guest.beat_us = (guint)raw->beat_us;
	options->guest.backing = options->backing;
	options->guest.dirty_source = options->dirty_source;
	options->guest.workload = options->workload;
	options->guest.incoming = options->incoming != NULL;
	return TRUE;
}

gboolean ferry_cli_run_options_parse(FerryCliRunOptions *options, int argc, char **argv)
{
	g_auto(RawOptions) raw = { .vcpus = 1, .beat_us = 5000 };
	const GOptionEntry entries[] = {
		{ "ram", 0, 0, G_OPTION_ARG_STRING, &raw.ram, "Size of memory (256M)", "SIZE" },
		{ "kvm", 0, 0, G_OPTION_ARG_NONE, &raw.kvm, "A KVM guest, or fail", NULL },
		{ "process", 0, 0, G_OPTION_ARG_NONE, &raw.process, "A guest without KVM", NULL },
		{ "vcpus", 0, 0, G_OPTION_ARG_INT, &raw.vcpus, "Virtual processors (1)", "N" },
		{ "workload", 0, 0, G_OPTION_ARG_STRING, &options->workload,
		  "What the guest does (idle)", "SPEC" },
		{ "fill", 0, 0, G_OPTION_ARG_STRING, &raw.fill,
		  "What memory holds at first: pages (that check themselves), random, zero, sparse",
		  "FILL" },
		{ "seed", 0, 0, G_OPTION_ARG_STRING, &raw.seed, "Of everything random (0)", "N" },
		{ "backing", 0, 0, G_OPTION_ARG_STRING, &options->backing,
		  "What memory is: memfd, anon, hugetlb or a file (memfd)", "BACKING" },
		{ "prealloc", 0, 0, G_OPTION_ARG_NONE, &options->guest.prealloc,
		  "Take all of the memory from the host at once", NULL },
		{ "dirty-source", 0, 0, G_OPTION_ARG_STRING, &options->dirty_source,
		  "How written pages are found: auto, wp-async, wp-fault, soft-dirty, kvm-log (auto)",
		  "NAME" },
		{ "uuid", 0, 0, G_OPTION_ARG_STRING, &raw.uuid,
		  "The guest's UUID, which validate-uuid compares", "UUID" },
		{ "beat-interval", 0, 0, G_OPTION_ARG_INT, &raw.beat_us,
		  "Between two heartbeats, as query-guest tells them (5000)", "MICROSECONDS" },
		{ "qmp", 0, 0, G_OPTION_ARG_STRING, &options->qmp, "Offer a QMP socket",
		  "unix:PATH" },
		{ "incoming", 0, 0, G_OPTION_ARG_STRING, &options->incoming,
		  "Take a guest in; defer waits for migrate-incoming", "URI|defer" },
		{ "paused", 'S', 0, G_OPTION_ARG_NONE, &options->paused, "Wait for QMP's cont",
		  NULL },
		{ "log", 0, 0, G_OPTION_ARG_STRING, &raw.log,
		  "Log to stderr: off, warning, message, info, debug (off)", "LEVEL" },
		{ "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &options->settings,
		  "Set a capability or parameter", "NAME=VALUE" },
		{ NULL },
	};

	return ferry_cli_parse(&help, entries, &argc, &argv, 0, 0) && convert(options, &raw);
}

void ferry_cli_run_options_clear(FerryCliRunOptions *options)
{
	g_free(options->incoming);
	g_free(options->qmp);
	g_strfreev(options->settings);
	g_free(options->backing);
	g_free(options->dirty_source);
	g_free(options->workload);
}
