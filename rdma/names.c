/* SPDX-License-Identifier: BSD-2-Clause */
#include "link.h"

/* The libraries' own texts for these are sentences; man pages and logs are searched by name. */
#define NAME(constant) [constant] = #constant

static const char *name_in(const char *const *names, size_t n, guint value)
{
	return value < n && names[value] ? names[value] : "an unknown number";
}

const char *ferry_rdma_wc_name(enum ibv_wc_status status)
{
	static const char *const names[] = {
		NAME(IBV_WC_SUCCESS),
		NAME(IBV_WC_LOC_LEN_ERR),
		NAME(IBV_WC_LOC_QP_OP_ERR),
		NAME(IBV_WC_LOC_EEC_OP_ERR),
		NAME(IBV_WC_LOC_PROT_ERR),
		NAME(IBV_WC_WR_FLUSH_ERR),
		NAME(IBV_WC_MW_BIND_ERR),
		NAME(IBV_WC_BAD_RESP_ERR),
		NAME(IBV_WC_LOC_ACCESS_ERR),
		NAME(IBV_WC_REM_INV_REQ_ERR),
		NAME(IBV_WC_REM_ACCESS_ERR),
		NAME(IBV_WC_REM_OP_ERR),
		NAME(IBV_WC_RETRY_EXC_ERR),
		NAME(IBV_WC_RNR_RETRY_EXC_ERR),
		NAME(IBV_WC_LOC_RDD_VIOL_ERR),
		NAME(IBV_WC_REM_INV_RD_REQ_ERR),
		NAME(IBV_WC_REM_ABORT_ERR),
		NAME(IBV_WC_INV_EECN_ERR),
		NAME(IBV_WC_INV_EEC_STATE_ERR),
		NAME(IBV_WC_FATAL_ERR),
		NAME(IBV_WC_RESP_TIMEOUT_ERR),
		NAME(IBV_WC_GENERAL_ERR),
		NAME(IBV_WC_TM_ERR),
		NAME(IBV_WC_TM_RNDV_INCOMPLETE),
	};

	return name_in(names, G_N_ELEMENTS(names), status);
}

const char *ferry_rdma_cm_name(enum rdma_cm_event_type type)
{
	static const char *const names[] = {
		NAME(RDMA_CM_EVENT_ADDR_RESOLVED),   NAME(RDMA_CM_EVENT_ADDR_ERROR),
		NAME(RDMA_CM_EVENT_ROUTE_RESOLVED),  NAME(RDMA_CM_EVENT_ROUTE_ERROR),
		NAME(RDMA_CM_EVENT_CONNECT_REQUEST), NAME(RDMA_CM_EVENT_CONNECT_RESPONSE),
		NAME(RDMA_CM_EVENT_CONNECT_ERROR),   NAME(RDMA_CM_EVENT_UNREACHABLE),
		NAME(RDMA_CM_EVENT_REJECTED),        NAME(RDMA_CM_EVENT_ESTABLISHED),
		NAME(RDMA_CM_EVENT_DISCONNECTED),    NAME(RDMA_CM_EVENT_DEVICE_REMOVAL),
		NAME(RDMA_CM_EVENT_MULTICAST_JOIN),  NAME(RDMA_CM_EVENT_MULTICAST_ERROR),
		NAME(RDMA_CM_EVENT_ADDR_CHANGE),     NAME(RDMA_CM_EVENT_TIMEWAIT_EXIT),
	};

	return name_in(names, G_N_ELEMENTS(names), type);
}

const char *ferry_rdma_async_name(enum ibv_event_type type)
{
	static const char *const names[] = {
		NAME(IBV_EVENT_CQ_ERR),
		NAME(IBV_EVENT_QP_FATAL),
		NAME(IBV_EVENT_QP_REQ_ERR),
		NAME(IBV_EVENT_QP_ACCESS_ERR),
		NAME(IBV_EVENT_COMM_EST),
		NAME(IBV_EVENT_SQ_DRAINED),
		NAME(IBV_EVENT_PATH_MIG),
		NAME(IBV_EVENT_PATH_MIG_ERR),
		NAME(IBV_EVENT_DEVICE_FATAL),
		NAME(IBV_EVENT_PORT_ACTIVE),
		NAME(IBV_EVENT_PORT_ERR),
		NAME(IBV_EVENT_LID_CHANGE),
		NAME(IBV_EVENT_PKEY_CHANGE),
		NAME(IBV_EVENT_SM_CHANGE),
		NAME(IBV_EVENT_SRQ_ERR),
		NAME(IBV_EVENT_SRQ_LIMIT_REACHED),
		NAME(IBV_EVENT_QP_LAST_WQE_REACHED),
		NAME(IBV_EVENT_CLIENT_REREGISTER),
		NAME(IBV_EVENT_GID_CHANGE),
		NAME(IBV_EVENT_WQ_FATAL),
	};

	return name_in(names, G_N_ELEMENTS(names), type);
}

const char *ferry_rdma_wc_hint(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
		return ": the peer or the network to it is gone";
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return ": the peer takes no more messages; is it hung?";
	case IBV_WC_WR_FLUSH_ERR:
		return ": the device gave the queue pair up and told no reason; look at the network and "
		       "at the peer";
	case IBV_WC_REM_ACCESS_ERR:
		return ": the peer's memory region is gone, or its key is not the one it told";
	case IBV_WC_REM_INV_REQ_ERR:
		return ": the peer's device does not take the request; does its port's MTU fit?";
	case IBV_WC_REM_OP_ERR:
		return ": the peer's device failed; its kernel log may tell more";
	case IBV_WC_LOC_PROT_ERR:
		return ": the local memory region is gone; was guest RAM unmapped?";
	case IBV_WC_LOC_LEN_ERR:
		return ": longer than the local port's largest message";
	case IBV_WC_LOC_QP_OP_ERR:
	case IBV_WC_FATAL_ERR:
	case IBV_WC_GENERAL_ERR:
		return ": the local device failed; the kernel log may tell more";
	default:
		return "";
	}
}
