/* SPDX-License-Identifier: BSD-2-Clause */
#include "zero-copy.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* So many sends, all of them copied, are enough to know. */
#define TRIAL 16u

gboolean ferry_zero_copy_open(FerryZeroCopy *z, int fd, GError **error)
{
	const int on = 1;

	*z = (FerryZeroCopy){ .fd = fd };
	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) < 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "zero-copy-send: the system cannot (SO_ZEROCOPY): %s; switch it off",
			    g_strerror(errno));
		return FALSE;
	}
	z->on = TRUE;
	return TRUE;
}

static gssize send_now(int fd, const struct iovec *iov, size_t n, int flags)
{
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };

	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
}

gssize ferry_zero_copy_send(FerryZeroCopy *z, const struct iovec *iov, size_t n)
{
	gssize done;

	z->starved = FALSE;
	if (!z->on)
		return send_now(z->fd, iov, n, 0);
	done = send_now(z->fd, iov, n, MSG_ZEROCOPY);
	if (done >= 0)
		z->sent++;
	if (done >= 0 || errno != ENOBUFS)
		return done;
	/* No room for another: in the socket's option memory, or under RLIMIT_MEMLOCK. Either what
	 * is under way makes some, or there is none at all. */
	z->starved = !ferry_zero_copy_reap(z);
	if (z->starved) {
		errno = EAGAIN;
		return -1;
	}
	return send_now(z->fd, iov, n, 0);
}

/* Sends low to high are done. */
static void note(FerryZeroCopy *z, const struct sock_extended_err *e)
{
	guint32 n = e->ee_data - e->ee_info + 1;

	if (e->ee_origin != SO_EE_ORIGIN_ZEROCOPY || e->ee_errno || n > z->sent - z->done)
		return;
	z->done += n;
	if (e->ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
		__atomic_store_n(&z->copied, z->copied + n, __ATOMIC_RELAXED);
	if (z->done >= TRIAL && z->copied == z->done)
		z->on = FALSE;
}

gboolean ferry_zero_copy_reap(FerryZeroCopy *z)
{
	while (z->done != z->sent) {
		char control[CMSG_SPACE(sizeof(struct sock_extended_err) +
					sizeof(struct sockaddr_storage))];
		struct msghdr message = { .msg_control = control,
					  .msg_controllen = sizeof(control) };
		struct cmsghdr *c;

		if (recvmsg(z->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			return FALSE;
		for (c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
			if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
			    (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
				note(z, (const struct sock_extended_err *)CMSG_DATA(c));
	}
	return TRUE;
}
