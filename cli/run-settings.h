/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/settings.h>

/* Applies all --set NAME=VALUE of `ferry run`, or none. @options: NULL-terminated; may be NULL.
 * FERRY_ERROR_INVALID where one is wrong; where its name is, the message names what there is. */
gboolean ferry_cli_set_all(FerrySettings *settings, char **options, GError **error);
