/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>
#include "harness.h"

/* What the tests of channels share. */

/* The transport of @uri's scheme; ferry_transport_find() is the engine's. */
const FerryTransport *transport_of(const char *uri);
FerryChannel *connect_to(const char *uri, GError **error);
FerryListener *listen_on(const char *uri, GError **error);

/* Connects to a listener on @uri and accepts: FALSE if that failed, which is a failure of the case.
 */
gboolean make_pair(const char *uri, FerryChannel **source, FerryChannel **destination);

/* Reads until @len bytes or the end; returns how many. */
size_t read_up_to(FerryChannel *channel, void *buf, size_t len);

/* TRUE if @error has @code and its message contains @text; prints it otherwise. */
gboolean is_error(const GError *error, int code, const char *text);

/* Entries of /proc/self/fd and /proc/self/task. */
guint open_fds(void);
guint running_threads(void);

/* A function in a thread, which can be waited for until it sleeps in the kernel. */
typedef struct {
	GThread *thread;
	gint tid; /* atomic; 0 before it runs */
	void (*func)(gpointer user);
	gpointer user;
} Sleeper;
void sleeper_start(Sleeper *sleeper, void (*func)(gpointer user), gpointer user);
void sleeper_wait_asleep(Sleeper *sleeper);
/* Waits for its end; returns the milliseconds since @since. */
double sleeper_join(Sleeper *sleeper, gint64 since);

/* A new folder under the temporary one; remove with remove_folder(). */
char *make_folder(void);
void remove_folder(char *folder);
