/* SPDX-License-Identifier: BSD-2-Clause */
#include "transports.h"

const FerryTransport *const *ferry_transports(void)
{
	static const FerryTransport *const all[] = {
		&ferry_tcp_transport,
		&ferry_unix_transport,
		NULL,
	};

	return all;
}
