/* SPDX-License-Identifier: BSD-2-Clause */
#include "record.h"

#include <sys/utsname.h>
#include <unistd.h>
#include <ferry/rdma.h>
#include <ferry/version.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#define HYPERVISOR_LEAF 0x40000000u

/* What follows the first "@name : " of /proc/cpuinfo; NULL without. */
static char *processor_says(const char *name)
{
	g_autofree char *all = NULL;
	g_auto(GStrv) lines = NULL;

	if (!g_file_get_contents("/proc/cpuinfo", &all, NULL, NULL))
		return NULL;
	lines = g_strsplit(all, "\n", -1);
	for (char **line = lines; *line; line++) {
		char *colon = strchr(*line, ':');

		if (g_str_has_prefix(*line, name) && colon)
			return g_strdup(g_strstrip(colon + 1));
	}
	return NULL;
}

/* The hypervisor below, by the name that the processor gives for it. */
static const char *hypervisor(void)
{
#ifdef __x86_64__
	static const struct {
		const char *signature, *name;
	} known[] = { { "KVMKVMKVM", "kvm" },          { "TCGTCGTCGTCG", "tcg" },
		      { "Microsoft Hv", "microsoft" }, { "VMwareVMware", "vmware" },
		      { "XenVMMXenVMM", "xen" },       { "bhyve bhyve ", "bhyve" } };
	g_autofree char *flags = processor_says("flags");
	union {
		guint32 registers[3];
		char text[13];
	} said = { .text = "" };
	guint32 most;

	if (!flags || !strstr(flags, " hypervisor"))
		return "none";
	__cpuid(HYPERVISOR_LEAF, most, said.registers[0], said.registers[1], said.registers[2]);
	for (guint i = 0; i < G_N_ELEMENTS(known) && most; i++)
		if (g_str_equal(known[i].signature, said.text))
			return known[i].name;
#endif
	return "unknown";
}

static JsonArray *devices(void)
{
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(NULL);
	JsonArray *list = json_array_new();

	for (guint i = 0; i < ports->len; i++) {
		const FerryRdmaPort *port = ports->pdata[i];
		g_autofree char *text = g_strdup_printf(
			"%s port %u, %s, MTU %u, GID %s%s%s", port->device, port->port,
			port->gid_type, port->active_mtu, port->gid, port->interface ? " on " : "",
			port->interface ? port->interface : "");

		if (port->active)
			json_array_add_string_element(list, text);
	}
	return list;
}

/* Of the kernel that runs here: names may be alike on two hosts. */
static void put_boot(JsonObject *host)
{
	g_autofree char *id = NULL;

	if (g_file_get_contents("/proc/sys/kernel/random/boot_id", &id, NULL, NULL))
		json_object_set_string_member(host, "boot", g_strstrip(id));
}

JsonObject *ferry_bench_host(void)
{
	g_autofree char *processor = processor_says("model name");
	JsonObject *host = json_object_new(), *versions = json_object_new();
	struct utsname name = { 0 };

	uname(&name);
	json_object_set_string_member(host, "hostname", g_get_host_name());
	json_object_set_string_member(host, "processor", processor ? processor : name.machine);
	put_boot(host);
	json_object_set_int_member(host, "cpus", g_get_num_processors());
	json_object_set_int_member(host, "memory",
				   sysconf(_SC_PHYS_PAGES) * (gint64)sysconf(_SC_PAGESIZE));
	json_object_set_string_member(host, "kernel", name.release);
	json_object_set_string_member(host, "virtual", hypervisor());
	json_object_set_array_member(host, "devices", devices());
	json_object_set_string_member(versions, "ferry", FERRY_VERSION);
	json_object_set_object_member(host, "versions", versions);
	return host;
}
