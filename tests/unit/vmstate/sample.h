/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/vmstate.h>

/* A device that uses every kind and shape, nested structs and subsections, for tests that break
 * things. */

#define SAMPLE_LINES_MAX 6
#define SAMPLE_LOG_MAX 32

typedef struct {
	guint64 rip;
	gboolean halted;
	guint32 wide; /* travels in the subsection "sample-regs/wide", where it is not 0 */
} SampleRegs;

typedef struct {
	guint8 u8;
	guint16 u16;
	guint32 u32;
	guint64 u64;
	gint8 s8;
	gint16 s16;
	gint32 s32;
	gint64 s64;
	gboolean armed;
	gint64 deadline;
	guint8 mac[6];
	guint16 queues[3];
	guint8 n_lines;
	guint32 *lines; /* SAMPLE_LINES_MAX */
	gint16 *levels[2];
	guint32 log_len;
	guint8 *log; /* SAMPLE_LOG_MAX */
	SampleRegs boot;
	SampleRegs regs[3];
	SampleRegs *shadow[2];
	guint32 since_2;
	guint64 trace; /* subsection "sample/trace", if tracing */
	gboolean tracing;
	guint32 debug;   /* subsection "sample/debug", if not 0 */
	gboolean refuse; /* post_load fails */

	guint32 lines_memory[SAMPLE_LINES_MAX];
	gint16 levels_memory[2];
	guint8 log_memory[SAMPLE_LOG_MAX];
	SampleRegs shadow_memory[2];
} Sample;

extern const FerryVmstate sample_regs_vmstate;
extern const FerryVmstate sample_vmstate; /* "sample", version 2, loads 1 */

/* Points into @sample itself; everything else is zero. */
void sample_init(Sample *sample);
/* Values that tell every field from every other. */
void sample_fill(Sample *sample);
/* Whether all that travels is equal. */
gboolean sample_equal(const Sample *a, const Sample *b);

/* The bytes as lower-case hex; free with g_free(). */
char *sample_hex(const GByteArray *bytes);
/* Whether @error is set, in FERRY_ERROR with @code, and says every word up to NULL; prints it if
 * not. */
gboolean sample_error_says(const GError *error, int code, ...) G_GNUC_NULL_TERMINATED;
/* Loads the one section in @data; the version may be forced to another by the caller's editing. */
gboolean sample_load_section(FerryDevices *devices, const guint8 *data, gsize len, GError **error);
