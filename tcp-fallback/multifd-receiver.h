/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "multifd.h"
#include "page-landing.h"
#include "page-receiver.h"

/* Reads the packets of one channel; not started yet. @landing and @terms are borrowed, and shared.
 * NULL with FERRY_ERROR_IO where there is no descriptor left. */
FerryPageReceiver *ferry_multifd_receiver_new(guint index, FerryLanding *landing,
					      const FerryMultifdTerms *terms, GError **error);
