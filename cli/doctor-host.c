/* SPDX-License-Identifier: BSD-2-Clause */
#include "doctor.h"

#include <guest.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PROBE_RAM (16u << 20)

static void check_kernel(FerryDoctor *doctor)
{
	struct utsname system;
	int major = 0, minor = 0;
	gboolean recent;

	uname(&system);
	recent = sscanf(system.release, "%d.%d", &major, &minor) == 2 &&
		 (major > 6 || (major == 6 && minor >= 7));
	ferry_doctor_add(
		doctor, "kernel", recent ? FERRY_CHECK_OK : FERRY_CHECK_WARN,
		g_strdup_printf("%s %s, %s", system.sysname, system.release, system.machine),
		recent ? NULL
		       : "Linux 6.7 or newer finds written pages ten times faster (wp-async)");
}

static void check_page_size(FerryDoctor *doctor)
{
	long size = sysconf(_SC_PAGESIZE);
	gboolean fits = size == FERRY_PAGE_SIZE;

	ferry_doctor_add(doctor, "page size", fits ? FERRY_CHECK_OK : FERRY_CHECK_MISSING,
			 g_strdup_printf("%ld bytes", size),
			 fits ? NULL : "boot a kernel with pages of 4096 bytes")
		->required = TRUE;
}

static void check_processor(FerryDoctor *doctor)
{
#ifdef __x86_64__
	const char *best = __builtin_cpu_supports("avx512bw") ? "AVX-512"
			   : __builtin_cpu_supports("avx2")   ? "AVX2"
							      : NULL;

	ferry_doctor_add(
		doctor, "zero scan", best ? FERRY_CHECK_OK : FERRY_CHECK_WARN,
		g_strdup(best ? best : "SSE2"),
		best ? NULL
		     : "a processor (or CPU model of this virtual machine) with AVX2 finds zero "
		       "pages faster");
#else
	ferry_doctor_add(doctor, "zero scan", FERRY_CHECK_OK, g_strdup("portable code"), NULL);
#endif
}

/* Runs a KVM guest for real: /dev/kvm can open and still not work. */
static gboolean try_kvm(GError **error)
{
	const FerryGuestConfig config = {
		.ram_size = PROBE_RAM,
		.kind = FERRY_GUEST_KVM,
		.fill = FERRY_GUEST_FILL_ZERO,
	};
	g_autoptr(FerryGuest) guest = ferry_guest_new(&config, error);
	FerryGuestReport report;
	gboolean ran;

	if (!guest || !ferry_vm_start(ferry_guest_vm(guest), error))
		return FALSE;
	ran = ferry_guest_check(guest, &report, error);
	if (ran && !report.passed) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "a guest ran, but wrongly: %s",
			    report.findings[0]);
		ran = FALSE;
	}
	return ferry_vm_stop(ferry_guest_vm(guest), ran ? error : NULL) && ran;
}

static void check_kvm(FerryDoctor *doctor)
{
	g_autoptr(GError) error = NULL;

	if (try_kvm(&error))
		ferry_doctor_add(doctor, "KVM", FERRY_CHECK_OK, g_strdup("a guest ran"), NULL);
	else
		ferry_doctor_add(
			doctor, "KVM", FERRY_CHECK_MISSING, g_strdup(error->message),
			"load kvm_intel or kvm_amd, switch virtualization on in the firmware, join "
			"the group kvm; until then ferry run takes the process guest");
}

void ferry_doctor_host(FerryDoctor *doctor)
{
	check_kernel(doctor);
	check_page_size(doctor);
	check_processor(doctor);
	check_kvm(doctor);
}
