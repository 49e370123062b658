/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>

/*
 * A listener that has its channel already: accept() gives it once. @channel is taken; @uri is
 * copied.
 * @ready_fd: accept() waits until it can be read, as a FIFO whose writer has not come yet cannot;
 * -1 for none.
 */
FerryListener *ferry_one_shot_listener_new(const char *uri, FerryChannel *channel, int ready_fd);
