/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* What `ferry doctor` finds out. */

typedef enum {
	FERRY_CHECK_OK,
	FERRY_CHECK_WARN,    /* works, but slower or not for everybody */
	FERRY_CHECK_MISSING, /* does not work here */
} FerryCheckVerdict;

typedef struct {
	const char *name; /* static */
	FerryCheckVerdict verdict;
	gboolean required; /* without it no guest can be migrated */
	char *finding;
	char *remedy; /* NULL where nothing needs one */
} FerryCheck;

typedef struct {
	GPtrArray *checks; /* of FerryCheck */
} FerryDoctor;

/* Adds a check. @finding is taken over, @remedy copied; NULL where nothing needs one. The result is
 * for setting @required. */
FerryCheck *ferry_doctor_add(FerryDoctor *doctor, const char *name, FerryCheckVerdict verdict,
			     char *finding, const char *remedy);

/* The kernel, the processor, KVM. */
void ferry_doctor_host(FerryDoctor *doctor);
/* Dirty-page tracking, userfaultfd, locked memory, huge pages. */
void ferry_doctor_memory(FerryDoctor *doctor);
/* RDMA devices: @ports (of FerryRdmaPort) as ferry_rdma_list_ports() lists them, with @why (taken
 * over) where there are none. */
void ferry_doctor_rdma(FerryDoctor *doctor, const GPtrArray *ports, char *why);
/* A TCP connection to @peer, "HOST:PORT". */
void ferry_doctor_peer(FerryDoctor *doctor, const char *peer);

/* The first line of the file at @path; NULL if it cannot be read. Free with g_free(). */
char *ferry_doctor_read_line(const char *path);
