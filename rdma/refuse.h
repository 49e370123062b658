/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/fabric.h>

/* Knows no verbs: a build without RDMA has it too. */

/* The payload of a REFUSE with @why: UTF-8, cut to what a record holds. */
GBytes *ferry_rdma_refusal(const char *why);

/* A carrier that cannot serve: a source's share_ram() fails with FERRY_ERROR_NOSUPP and @why
 * (copied); a destination's refuses every offer with it. */
FerryCarrier *ferry_rdma_refusing_carrier(const char *why, const FerryFabricSession *session);
