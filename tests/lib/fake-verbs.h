/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "rdma/verbs.h"

/*
 * Two RDMA devices and the wire between them, inside the test process: what a source's and a
 * destination's carrier call instead of librdmacm and libibverbs. Each side has a table of its own,
 * so that calls, faults and live objects are counted by side. It behaves as the man pages say, down
 * to what a real device does only sometimes, and writes down what they forbid: fake_nic_check().
 * One at a time in a process, since the calls have no user pointer. Every function: any thread.
 */
typedef struct FakeNic FakeNic;

typedef enum {
	FAKE_SOURCE,
	FAKE_DESTINATION,
	FAKE_SIDES,
} FakeSide;

/* In the order of FerryVerbs. */
typedef enum {
	FAKE_CREATE_EVENT_CHANNEL,
	FAKE_DESTROY_EVENT_CHANNEL,
	FAKE_GET_CM_EVENT,
	FAKE_ACK_CM_EVENT,
	FAKE_CREATE_ID,
	FAKE_DESTROY_ID,
	FAKE_MIGRATE_ID,
	FAKE_BIND_ADDR,
	FAKE_LISTEN,
	FAKE_RESOLVE_ADDR,
	FAKE_RESOLVE_ROUTE,
	FAKE_SET_OPTION,
	FAKE_CREATE_QP,
	FAKE_DESTROY_QP,
	FAKE_CONNECT,
	FAKE_ACCEPT,
	FAKE_REJECT,
	FAKE_DISCONNECT,
	FAKE_GET_DEVICES,
	FAKE_FREE_DEVICES,
	FAKE_QUERY_DEVICE_EX,
	FAKE_QUERY_PORT,
	FAKE_QUERY_GID_EX,
	FAKE_ALLOC_PD,
	FAKE_DEALLOC_PD,
	FAKE_REG_MR,
	FAKE_DEREG_MR,
	FAKE_ADVISE_MR,
	FAKE_CREATE_COMP_CHANNEL,
	FAKE_DESTROY_COMP_CHANNEL,
	FAKE_CREATE_CQ,
	FAKE_DESTROY_CQ,
	FAKE_REQ_NOTIFY_CQ,
	FAKE_GET_CQ_EVENT,
	FAKE_ACK_CQ_EVENTS,
	FAKE_POLL_CQ,
	FAKE_POST_SEND,
	FAKE_POST_RECV,
	FAKE_QUERY_QP,
	FAKE_MODIFY_QP,
	FAKE_GET_ASYNC_EVENT,
	FAKE_ACK_ASYNC_EVENT,
	FAKE__N,
} FakeVerb;

/* "rdma_create_id", "ibv_reg_mr": by which messages name it. */
const char *fake_verb_name(FakeVerb verb);

/* Most sizes of the device; a test may change them before the first call. */
typedef struct {
	guint max_qp_wr;
	guint max_cqe;
	guint max_qp;
	guint max_reads;      /* under way on a queue pair, both as asker and as asked */
	guint active_mtu;     /* enum ibv_mtu */
	gboolean on_demand;   /* on-demand paging for RDMA writes, both sides */
	guint retry_us;       /* until posted work to a peer that is silent ends in RETRY_EXC_ERR */
	guint unreachable_us; /* until connecting to a silent peer ends in UNREACHABLE */
	guint delay_min_us;   /* work takes this to this: queue pairs overtake each other */
	guint delay_max_us;
	/* Data of writes stays aside and lands at the queue pair's next fence, in any order, and
	 * the fence arrives later than its sender hears of it: what relaxed ordering and buffers on
	 * the way allow. */
	gboolean delay_visibility;
	/* A device that is wrong: fences arrive, what is aside stays there. */
	gboolean void_fences;
} FakeConfig;

FakeNic *fake_nic_new(guint32 seed);
void fake_nic_free(FakeNic *nic);
FakeConfig *fake_config(FakeNic *nic);

/* The table of a side; static. */
const FerryVerbs *fake_verbs(FakeSide side);

/* A side without a device: nothing resolves, nothing is bound. */
void fake_no_device(FakeNic *nic, FakeSide side);

/* What was forbidden and done nevertheless (queues overrun, objects destroyed in a wrong order,
 * events not acked where the real call would hang, ...), and objects that live: lines of text,
 * owned by the caller; NULL when there is nothing to tell. */
char *fake_nic_check(FakeNic *nic);

/* ---- faults ---- */

/* The @nth call (from 1, counted from now on) of @verb on @side fails with @error. What destroys
 * does so nevertheless. Verbs without a result cannot fail. */
void fake_fail(FakeNic *nic, FakeSide side, FakeVerb verb, guint nth, int error);

/* At the begin of the @nth call from now on, @hook runs in the caller's thread; it may call all of
 * these functions. */
void fake_at(FakeNic *nic, FakeSide side, FakeVerb verb, guint nth, void (*hook)(gpointer user),
	     gpointer user);

/* TRUE once a fault or a hook for @verb on @side happened. */
gboolean fake_happened(FakeNic *nic, FakeSide side, FakeVerb verb);

/* The @nth work request from now on that this side's device executes (source: sends, destination:
 * receives) completes with @status, signalled or not; its queue pair then flushes. */
void fake_fail_work(FakeNic *nic, FakeSide side, guint nth, enum ibv_wc_status status);

/* An event for the @nth (from 0) of the side's ids that live and do not listen, FAKE_LISTENER: for
 * the one that does; FALSE: no such. */
#define FAKE_LISTENER G_MAXUINT
gboolean fake_cm_event(FakeNic *nic, FakeSide side, guint nth, enum rdma_cm_event_type type,
		       int status);

/* What the listener's peer-to-be is told (REJECTED, UNREACHABLE, ...) instead of being let in: the
 * next connect() of the source ends in @type. */
void fake_refuse_connect(FakeNic *nic, enum rdma_cm_event_type type, int status);

/* The same for resolve_addr() and resolve_route(). */
void fake_refuse_resolve(FakeNic *nic, enum rdma_cm_event_type type, int status);

/* An asynchronous event of the side's device; about its first queue pair, completion queue or its
 * port, as the type asks. */
void fake_async_event(FakeNic *nic, FakeSide side, enum ibv_event_type type);

/* The process of @side is gone: DISCONNECTED at the other, whose work finds nobody. */
void fake_kill(FakeNic *nic, FakeSide side);

/* Nothing passes the wire any more. */
void fake_cut(FakeNic *nic);

/* When the last of all these happened (monotonic); 0: none did. */
gint64 fake_fault_time(FakeNic *nic);

/* Forgets all faults, and those that did not happen do not. */
void fake_heal(FakeNic *nic);

/* ---- counts ---- */

typedef struct {
	guint channels, ids, qps, cqs, pds, mrs, comp_channels;
	guint unacked; /* CM, completion and asynchronous events */
	guint device_lists;
} FakeCounts;
FakeCounts fake_counts(FakeNic *nic, FakeSide side);
guint fake_calls(FakeNic *nic, FakeSide side, FakeVerb verb);
guint64 fake_registered_peak(FakeNic *nic, FakeSide side); /* bytes, since the start */
/* RDMA writes with data and their bytes that came through, and those without; RDMA reads. */
void fake_written(FakeNic *nic, guint64 *writes, guint64 *bytes, guint64 *fences);
void fake_read(FakeNic *nic, guint64 *reads, guint64 *bytes);
guint fake_not_ready(FakeNic *nic); /* times that a write found no receive */
