/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "qmp-client.h"

/**
 * Applies --set NAME=VALUE options to a monitor. Which names there are, and of which type, the
 * monitor is asked; nothing is set unless all of them are known and well formed.
 * @options: NULL-terminated; may be NULL.
 * FERRY_ERROR_INVALID where an option is wrong, with the known names where the name is.
 */
gboolean ferry_cli_apply_settings(FerryQmpClient *client, char **options, GError **error);
