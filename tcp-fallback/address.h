/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "socket.h"

/* Splits "HOST:PORT", "[IPV6]:PORT" or ":PORT". *@host is the caller's, without the brackets. */
gboolean ferry_address_parse(const char *uri, char **host, guint16 *port, GError **error);

/*
 * The addresses of @host, which may be a name, in the order to try them; an array of FerryAddress
 * that the caller unrefs. A name is looked up until @deadline (monotonic, -1 for none) or
 * @cancellable.
 */
GArray *ferry_address_resolve(const char *host, guint16 port, gint64 deadline,
			      GCancellable *cancellable, GError **error);

gboolean ferry_address_is_any(const FerryAddress *address);
guint16 ferry_address_port(const FerryAddress *address);
void ferry_address_set_port(FerryAddress *address, guint16 port);

/*
 * An address of this host by which others reach it: of the interfaces that are up, IPv4 before IPv6
 * (unless
 * @family says AF_INET), the loopback only when there is no other. Caller frees. On a host with
 * several networks it is a guess, better than the any-address, which names the source itself when
 * it is used there.
 */
char *ferry_address_of_this_host(int family);
