/* SPDX-License-Identifier: BSD-2-Clause */
#include "sample.h"

#include <stdio.h>
#include <string.h>

static gboolean is_wide(gconstpointer opaque)
{
	return ((const SampleRegs *)opaque)->wide != 0;
}

static gboolean is_tracing(gconstpointer opaque)
{
	return ((const Sample *)opaque)->tracing;
}

static gboolean is_debugged(gconstpointer opaque)
{
	return ((const Sample *)opaque)->debug != 0;
}

static gboolean post_load(gpointer opaque, guint32 version_id, GError **error)
{
	if (!((Sample *)opaque)->refuse)
		return TRUE;
	g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_MISMATCH, "the lines are not wired");
	return FALSE;
}

static const FerryVmstateField wide_fields[] = {
	FERRY_VMSTATE_UINT32(SampleRegs, wide),
	FERRY_VMSTATE_END,
};

static const FerryVmstate wide_vmstate = {
	.name = "sample-regs/wide",
	.version_id = 1,
	.fields = wide_fields,
	.needed = is_wide,
};

static const FerryVmstate *const regs_subsections[] = { &wide_vmstate, NULL };

static const FerryVmstateField regs_fields[] = {
	FERRY_VMSTATE_UINT64(SampleRegs, rip),
	FERRY_VMSTATE_BOOLEAN(SampleRegs, halted),
	FERRY_VMSTATE_END,
};

const FerryVmstate sample_regs_vmstate = {
	.name = "sample-regs",
	.version_id = 1,
	.fields = regs_fields,
	.subsections = regs_subsections,
};

static const FerryVmstateField trace_fields[] = {
	FERRY_VMSTATE_UINT64(Sample, trace),
	FERRY_VMSTATE_END,
};

static const FerryVmstate trace_vmstate = {
	.name = "sample/trace",
	.version_id = 3,
	.minimum_version_id = 2,
	.fields = trace_fields,
	.needed = is_tracing,
};

static const FerryVmstateField debug_fields[] = {
	FERRY_VMSTATE_UINT32(Sample, debug),
	FERRY_VMSTATE_END,
};

static const FerryVmstate debug_vmstate = {
	.name = "sample/debug",
	.version_id = 1,
	.fields = debug_fields,
	.needed = is_debugged,
};

static const FerryVmstate *const sample_subsections[] = { &trace_vmstate, &debug_vmstate, NULL };

static const FerryVmstateField sample_fields[] = {
	FERRY_VMSTATE_UINT8(Sample, u8),
	FERRY_VMSTATE_UINT16(Sample, u16),
	FERRY_VMSTATE_UINT32(Sample, u32),
	FERRY_VMSTATE_UINT64(Sample, u64),
	FERRY_VMSTATE_INT8(Sample, s8),
	FERRY_VMSTATE_INT16(Sample, s16),
	FERRY_VMSTATE_INT32(Sample, s32),
	FERRY_VMSTATE_INT64(Sample, s64),
	FERRY_VMSTATE_BOOLEAN(Sample, armed),
	FERRY_VMSTATE_TIMER_NS(Sample, deadline),
	FERRY_VMSTATE_BYTES(Sample, mac),
	FERRY_VMSTATE_PADDING(3),
	FERRY_VMSTATE_ARRAY_OF(FERRY_VMSTATE_U16, guint16, Sample, queues, 3),
	FERRY_VMSTATE_UINT8(Sample, n_lines),
	FERRY_VMSTATE_VARRAY_OF(FERRY_VMSTATE_U32, guint32, Sample, lines, n_lines,
				SAMPLE_LINES_MAX),
	FERRY_VMSTATE_POINTERS_OF(FERRY_VMSTATE_S16, gint16, Sample, levels, 2),
	FERRY_VMSTATE_UINT32(Sample, log_len),
	FERRY_VMSTATE_VBYTES(Sample, log, log_len, SAMPLE_LOG_MAX),
	FERRY_VMSTATE_NESTED(Sample, boot, SampleRegs, &sample_regs_vmstate),
	FERRY_VMSTATE_NESTED_ARRAY(Sample, regs, 3, SampleRegs, &sample_regs_vmstate),
	FERRY_VMSTATE_UINT32_V(Sample, since_2, 2),
	FERRY_VMSTATE_NESTED_POINTERS(Sample, shadow, 2, SampleRegs, &sample_regs_vmstate),
	FERRY_VMSTATE_END,
};

const FerryVmstate sample_vmstate = {
	.name = "sample",
	.version_id = 2,
	.minimum_version_id = 1,
	.fields = sample_fields,
	.subsections = sample_subsections,
	.post_load = post_load,
};

void sample_init(Sample *sample)
{
	memset(sample, 0, sizeof(*sample));
	sample->lines = sample->lines_memory;
	sample->log = sample->log_memory;
	for (int i = 0; i < 2; i++) {
		sample->levels[i] = &sample->levels_memory[i];
		sample->shadow[i] = &sample->shadow_memory[i];
	}
}

static void fill_regs(SampleRegs *regs, guint n)
{
	regs->rip = 0xffff000000000000u + n;
	regs->halted = n & 1;
	regs->wide = n == 2 || n == 4 ? n : 0; /* one in the array, the last of all */
}

void sample_fill(Sample *sample)
{
	sample->u8 = 0xf1;
	sample->u16 = 0xf2f3;
	sample->u32 = 0xf4f5f6f7;
	sample->u64 = 0xf8f9fafbfcfdfeffu;
	sample->s8 = -2;
	sample->s16 = -3;
	sample->s32 = -4;
	sample->s64 = -5;
	sample->armed = TRUE;
	sample->deadline = -1;
	memcpy(sample->mac, "\x52\x54\x00\x12\x34\x56", 6);
	for (int i = 0; i < 3; i++)
		sample->queues[i] = 0x0501 + i;
	sample->n_lines = 4;
	for (int i = 0; i < 4; i++)
		sample->lines[i] = 0x1000 + i;
	*sample->levels[0] = -100;
	*sample->levels[1] = 100;
	sample->log_len = 9;
	memcpy(sample->log, "nine byte", 9);
	fill_regs(&sample->boot, 0);
	for (int i = 0; i < 3; i++)
		fill_regs(&sample->regs[i], 1 + i);
	for (int i = 0; i < 2; i++)
		fill_regs(sample->shadow[i], 3 + i);
	sample->since_2 = 0x05050505; /* looks like a subsection behind the last of regs */
	sample->trace = 0xabcdef;
	sample->tracing = TRUE;
	sample->debug = 7;
}

static gboolean regs_equal(const SampleRegs *a, const SampleRegs *b)
{
	return a->rip == b->rip && a->halted == b->halted && a->wide == b->wide;
}

static gboolean scalars_equal(const Sample *a, const Sample *b)
{
	return a->u8 == b->u8 && a->u16 == b->u16 && a->u32 == b->u32 && a->u64 == b->u64 &&
	       a->s8 == b->s8 && a->s16 == b->s16 && a->s32 == b->s32 && a->s64 == b->s64 &&
	       a->armed == b->armed && a->deadline == b->deadline && a->since_2 == b->since_2 &&
	       a->trace == b->trace && a->debug == b->debug;
}

gboolean sample_equal(const Sample *a, const Sample *b)
{
	gboolean equal = scalars_equal(a, b) && !memcmp(a->mac, b->mac, sizeof(a->mac)) &&
			 !memcmp(a->queues, b->queues, sizeof(a->queues)) &&
			 a->n_lines == b->n_lines && a->log_len == b->log_len;

	equal = equal && !memcmp(a->lines, b->lines, a->n_lines * sizeof(*a->lines)) &&
		!memcmp(a->log, b->log, a->log_len) && regs_equal(&a->boot, &b->boot);
	for (int i = 0; i < 2; i++)
		equal = equal && *a->levels[i] == *b->levels[i] &&
			regs_equal(a->shadow[i], b->shadow[i]);
	for (int i = 0; i < 3; i++)
		equal = equal && regs_equal(&a->regs[i], &b->regs[i]);
	return equal;
}

char *sample_hex(const GByteArray *bytes)
{
	GString *hex = g_string_new(NULL);

	for (guint i = 0; i < bytes->len; i++)
		g_string_append_printf(hex, "%02x", bytes->data[i]);
	return g_string_free(hex, FALSE);
}

gboolean sample_error_says(const GError *error, int code, ...)
{
	gboolean says = error && error->domain == FERRY_ERROR && error->code == code;
	const char *word;
	va_list args;

	va_start(args, code);
	while ((word = va_arg(args, const char *)))
		says = says && strstr(error->message, word);
	va_end(args);
	if (!says)
		printf("# the error is: %s\n", error ? error->message : "(none)");
	return says;
}

gboolean sample_load_section(FerryDevices *devices, const guint8 *data, gsize len, GError **error)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(data, len);
	FerryStreamElement element;

	return ferry_stream_next(reader, &element, error) &&
	       ferry_devices_load(devices, reader, &element, error);
}
