/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>

extern const FerryTransport ferry_tcp_transport;
extern const FerryTransport ferry_unix_transport;
extern const FerryTransport ferry_fd_transport;
extern const FerryTransport ferry_exec_transport;
extern const FerryTransport ferry_file_transport;
