/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/rehearsal.h>
#include "forecast.h"

/* What the rounds of a migration depend on. */
typedef struct {
	const FerryDirtyPoint
		*points; /* by rising time; where they end, it goes on as it did last */
	guint n_points;
	guint64 ram_pages;
	guint64 first_pages; /* with content: what the first round sends */
	double bandwidth;    /* bytes a second while the guest runs, above 0 */
	double limit_ms;     /* downtime-limit */
	/* of a downtime with a million pages to send: max-bandwidth does not count then */
	FerryForecastDowntime million;
} FerryRehearsalModel;

/* Different pages that the guest writes in @seconds. */
double ferry_rehearsal_model_written(const FerryRehearsalModel *model, double seconds);

/* Simulates the rounds and fills in @converges to @needed_bandwidth of @rehearsal. Max-bandwidth
 * counts as advice where @rehearsal->bandwidth_limit is set. */
void ferry_rehearsal_model_run(const FerryRehearsalModel *model, FerryRehearsal *rehearsal);
