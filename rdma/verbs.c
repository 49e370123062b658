/* SPDX-License-Identifier: BSD-2-Clause */
#include "verbs.h"

#include <errno.h>
#include <string.h>
#include <ferry/error.h>

/* Macros of the library, or functions that it keeps for old binaries under the plain name. */

static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr)
{
	return ibv_query_port(context, port, attr);
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *address, size_t len, int access)
{
	return ibv_reg_mr(pd, address, len, access);
}

const FerryVerbs ferry_verbs = {
	.create_event_channel = rdma_create_event_channel,
	.destroy_event_channel = rdma_destroy_event_channel,
	.get_cm_event = rdma_get_cm_event,
	.ack_cm_event = rdma_ack_cm_event,
	.create_id = rdma_create_id,
	.destroy_id = rdma_destroy_id,
	.migrate_id = rdma_migrate_id,
	.bind_addr = rdma_bind_addr,
	.listen = rdma_listen,
	.resolve_addr = rdma_resolve_addr,
	.resolve_route = rdma_resolve_route,
	.set_option = rdma_set_option,
	.create_qp = rdma_create_qp,
	.destroy_qp = rdma_destroy_qp,
	.connect = rdma_connect,
	.accept = rdma_accept,
	.reject = rdma_reject,
	.disconnect = rdma_disconnect,
	.get_devices = rdma_get_devices,
	.free_devices = rdma_free_devices,
	.query_device_ex = ibv_query_device_ex,
	.query_port = query_port,
	.query_gid_ex = ibv_query_gid_ex,
	.alloc_pd = ibv_alloc_pd,
	.dealloc_pd = ibv_dealloc_pd,
	.reg_mr = reg_mr,
	.dereg_mr = ibv_dereg_mr,
	.advise_mr = ibv_advise_mr,
	.create_comp_channel = ibv_create_comp_channel,
	.destroy_comp_channel = ibv_destroy_comp_channel,
	.create_cq = ibv_create_cq,
	.destroy_cq = ibv_destroy_cq,
	.req_notify_cq = ibv_req_notify_cq,
	.get_cq_event = ibv_get_cq_event,
	.ack_cq_events = ibv_ack_cq_events,
	.poll_cq = ibv_poll_cq,
	.post_send = ibv_post_send,
	.post_recv = ibv_post_recv,
	.query_qp = ibv_query_qp,
	.modify_qp = ibv_modify_qp,
	.get_async_event = ibv_get_async_event,
	.ack_async_event = ibv_ack_async_event,
};

static FerryErrorCode code_of(int error_number)
{
	switch (error_number) {
	case EOPNOTSUPP:
	case ENOSYS:
	case ENODEV:
		return FERRY_ERROR_NOSUPP;
	case ENOMEM:
	case EPERM:
	case EACCES:
	case EMFILE:
	case ENFILE:
		return FERRY_ERROR_IO;
	default:
		return FERRY_ERROR_LINK;
	}
}

static const char *advice(const char *call, int error_number)
{
	if (error_number == ENODEV)
		return ": no RDMA device serves this; 'ferry doctor' lists what there is";
	if (error_number == EMFILE)
		return ": raise the limit of open files (ulimit -n)";
	if (error_number == EACCES)
		return ": this user has no right to the devices in /dev/infiniband";
	if (error_number != ENOMEM && error_number != EPERM)
		return "";
	if (strstr(call, "reg_mr"))
		return ": memory must be locked for RDMA; raise RLIMIT_MEMLOCK (ulimit -l), or "
		       "give the process CAP_IPC_LOCK";
	return ": the device's queues count against RLIMIT_MEMLOCK (ulimit -l)";
}

gboolean ferry_verbs_failed(GError **error, const char *call, int error_number)
{
	int number = error_number ?: EIO;

	g_set_error(error, FERRY_ERROR, (int)code_of(number), "%s: %s%s", call, g_strerror(number),
		    advice(call, number));
	return FALSE;
}
