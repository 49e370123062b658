/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

/*
 * libferry: live migration for monitors, on one page.
 *
 * An embedder describes its guest once: RAM blocks (ferry/ram.h), devices (ferry/vmstate.h), where
 * dirty pages come from (ferry/dirty.h), and callbacks that stop and start it; together they are a
 * FerryVm (ferry/vm.h). A FerrySource moves the guest away, a FerryDestination takes one in, and a
 * FerryQmp lets an operator drive both.
 *
 * Moving goes in rounds while the guest runs: all RAM first, then, again and again, what was
 * written since. When what is left can be sent within the downtime limit, the guest stops, the rest
 * and the device state go, and the hand-over decides who owns the guest: the destination says
 * READY, the source says COMMIT and from then on never runs it again, the destination starts it and
 * says RUNNING. Any failure before COMMIT leaves the guest running at the source as if nothing had
 * happened.
 *
 * The control stream is QEMU's migration stream (ferry/stream.h, ferry/protocol.h) over a channel
 * (ferry/channel.h) that a transport (ferry/transport.h) connects. Pages travel by a carrier
 * (ferry/carrier.h). Every function says which thread may call it; callbacks come from ferry's
 * threads.
 */
#include <ferry/bytes.h>
#include <ferry/carrier.h>
#include <ferry/channel.h>
#include <ferry/destination.h>
#include <ferry/dirty.h>
#include <ferry/error.h>
#include <ferry/fabric.h>
#include <ferry/mapped.h>
#include <ferry/multifd.h>
#include <ferry/page-codec.h>
#include <ferry/protocol.h>
#include <ferry/qmp.h>
#include <ferry/ram.h>
#include <ferry/rdma.h>
#include <ferry/rehearsal.h>
#include <ferry/settings.h>
#include <ferry/source.h>
#include <ferry/state.h>
#include <ferry/status.h>
#include <ferry/stream.h>
#include <ferry/transport.h>
#include <ferry/version.h>
#include <ferry/vm.h>
#include <ferry/vmstate.h>
