/* SPDX-License-Identifier: BSD-2-Clause */
#include "transports.h"

const FerryTransport *const *ferry_socket_transports(void)
{
	static const FerryTransport *const all[] = {
		&ferry_tcp_transport,  &ferry_unix_transport, &ferry_fd_transport,
		&ferry_exec_transport, &ferry_file_transport, NULL,
	};

	return all;
}
