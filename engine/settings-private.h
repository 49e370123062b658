/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/settings.h>

FerrySettings *ferry_settings_new(void);
void ferry_settings_free(FerrySettings *settings);

/* While @frozen, capabilities cannot change: a migration runs. */
void ferry_settings_freeze(FerrySettings *settings, gboolean frozen);

/* Whether settings may be so together, each within its own range; both arrays are whole. */
gboolean ferry_settings_combine(const gboolean *capability, const guint64 *parameter,
				GError **error);
