/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/vmstate.h>

#include <string.h>

void ferry_global_state_set(FerryGlobalState *state, const char *name)
{
	gsize len = strlen(name);

	g_return_if_fail(len < FERRY_GLOBAL_STATE_SIZE);
	memset(state, 0, sizeof(*state));
	memcpy(state->runstate, name, len);
	state->size = len + 1;
}

const char *ferry_global_state_get(const FerryGlobalState *state, GError **error)
{
	const guint8 *end = memchr(state->runstate, 0, sizeof(state->runstate));

	if (!end) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE,
			    "the run state's name is not terminated within %u bytes",
			    FERRY_GLOBAL_STATE_SIZE);
		return NULL;
	}
	if (state->size != end - state->runstate + 1) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE,
			    "the run state's size is %u, but its name takes %u bytes", state->size,
			    (guint)(end - state->runstate + 1));
		return NULL;
	}
	return (const char *)state->runstate;
}

static gboolean check_after_load(gpointer opaque, guint32 version_id, GError **error)
{
	return ferry_global_state_get(opaque, error) != NULL;
}

static const FerryVmstateField fields[] = {
	FERRY_VMSTATE_UINT32(FerryGlobalState, size),
	FERRY_VMSTATE_BYTES(FerryGlobalState, runstate),
	FERRY_VMSTATE_END,
};

const FerryVmstate ferry_global_state_vmstate = {
	.name = "globalstate",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = fields,
	.post_load = check_after_load,
};
