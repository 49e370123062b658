/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "fake-verbs.h"

/*
 * What the parts of the fake device share: fake-verbs.c has devices and tables, fake-control.c what
 * the tests do to it, fake-memory.c domains and regions, fake-cm.c connections, fake-queue.c queue
 * pairs and completions, fake-wire.c the thread that does the work.
 * All is guarded by the one lock of the nic. Descriptors are eventfds in semaphore mode, whose
 * count is the number of events: poll(), O_NONBLOCK and blocking are the kernel's.
 */
typedef struct {
	FakeVerb verb;
	guint nth; /* call, counted from the side's first */
	int error; /* 0: a hook */
	void (*hook)(gpointer user);
	gpointer user;
	gboolean happened;
} FakeFault;

typedef struct FakeDevice {
	struct ibv_context context; /* first: verbs hand it out */
	struct ibv_device device;
	FakeNic *nic;
	FakeSide side;
	gboolean absent;
	GArray *faults; /* of FakeFault */
	guint calls[FAKE__N];
	FakeCounts counts;
	guint64 registered, registered_peak;
	guint work;   /* executed */
	guint work_n; /* the one to fail; 0: none */
	enum ibv_wc_status work_status;
	GQueue asyncs; /* of struct ibv_async_event */
} FakeDevice;

typedef struct {
	struct rdma_event_channel channel;
	FakeDevice *device;
	GQueue events; /* of FakeEvent */
	guint ids;
	guint unacked;
} FakeChannel;

typedef struct FakeId {
	struct rdma_cm_id id;
	FakeDevice *device;
	struct FakeId *peer; /* of a connection made or asked for */
	gboolean bound;
	gboolean listening;
	gboolean connected;
	gboolean unseen;   /* a request that the listener's owner did not take yet */
	gboolean told;     /* of the end of the connection */
	gboolean resolved; /* its route too */
	guint unacked;
	guint8 rnr_retry; /* what its peer asked of it (rdma_connect(3)) */
	guint8 own_rnr_retry;
	guint8 reads; /* what it may have under way, of the accepting side */
} FakeId;

typedef struct {
	struct rdma_cm_event event;
	FakeId *counted; /* whose unacked it is: of CONNECT_REQUEST the listener */
	FakeChannel *channel;
	guint8 data[256];
} FakeEvent;

typedef struct {
	struct ibv_pd pd;
	guint users;
} FakePd;

typedef struct {
	struct ibv_mr mr;
	int access;
} FakeMr;

typedef struct {
	struct ibv_comp_channel channel;
	FakeDevice *device;
	GQueue events; /* of FakeCq */
} FakeCompChannel;

typedef struct {
	struct ibv_cq cq;
	FakeDevice *device;
	FakeCompChannel *channel;
	GQueue entries; /* of FakeEntry */
	gboolean armed;
	guint users; /* queue pairs, send and receive counted apart */
	guint unacked;
} FakeCq;

typedef struct {
	guint64 id;
	enum ibv_wr_opcode opcode;
	gboolean signalled;
	struct ibv_sge sge[4];
	guint n_sge;
	guint32 length;
	guint64 address;
	guint32 key;
	__be32 imm;
	gboolean counted; /* among what the device executed */
	gint64 ready;     /* not before */
	gint64 silent;    /* since when the peer is; 0: not */
} FakeWork;

typedef struct {
	guint64 address; /* in the destination's memory */
	guint32 key;
	GBytes *data;
	guint epoch; /* fences that came to the queue pair before */
} FakeKept;

/* A fence that came, and took a receive, but has not completed it. */
typedef struct {
	guint64 id; /* of the receive */
	guint32 length;
	__be32 imm;
	guint epoch;
	gint64 ready; /* not before */
} FakeFence;

typedef struct {
	struct ibv_qp qp;
	FakeDevice *device;
	FakeId *id;
	struct ibv_qp_cap cap;
	gboolean all_signalled;
	GQueue sends;    /* of FakeWork */
	GQueue receives; /* of guint64 ids */
	guint sends_held, receives_held;
	guint silent_done; /* executed without a completion since the last one */
	guint rnr_tries;
	guint unacked;   /* asynchronous events */
	GQueue fences;   /* of FakeFence */
	guint epoch;     /* fences that came */
	GPtrArray *kept; /* writes that came here and are not visible yet */
} FakeQp;

typedef struct {
	struct ibv_wc wc;
	FakeQp *qp;
	guint frees; /* entries of the send queue; 0: of the receive queue, one */
} FakeEntry;

typedef struct {
	gint64 when;
	FakeId *id;
	enum rdma_cm_event_type type;
	int status;
} FakeTimer;

typedef struct {
	enum rdma_cm_event_type type;
	int status;
	gboolean set;
} FakeRefusal;

struct FakeNic {
	GMutex lock;
	GCond work;
	GThread *thread;
	gboolean ending;
	FakeConfig config;
	FakeDevice devices[FAKE_SIDES];
	GString *problems;
	GRand *random;
	gboolean cut;
	gint64 fault_us; /* when the last fault happened */
	FakeRefusal connect, resolve;
	GPtrArray *ids;  /* of FakeId, in the order of their making */
	GPtrArray *qps;  /* of FakeQp */
	GHashTable *mrs; /* local and remote key -> FakeMr */
	guint32 next_key;
	GArray *timers; /* of FakeTimer */
	guint64 writes, bytes, fences;
	guint64 reads, bytes_read;
	guint not_ready;
	guint unacked_asyncs;
	guint16 ports; /* given out */
	guint32 made;  /* queue pairs */
};

FakeNic *fake_nic_here(void);

/* ---- fake-verbs.c ---- */

/* Counts the call; runs its hooks; the errno with which it shall fail, or 0. Without the lock. */
int fake_enter(FakeDevice *device, FakeVerb verb);
void fake_problem(FakeNic *nic, const char *format, ...) G_GNUC_PRINTF(2, 3);
void fake_signal(int fd);
/* Takes one event off, blocking unless the descriptor must not: FALSE with errno. */
gboolean fake_take(int fd);
static inline FakeDevice *fake_device(struct ibv_context *context)
{
	return (FakeDevice *)context;
}

/* ---- fake-memory.c ---- */

struct ibv_pd *fake_alloc_pd(struct ibv_context *context);
int fake_dealloc_pd(struct ibv_pd *pd);
struct ibv_mr *fake_reg_mr(struct ibv_pd *pd, void *address, size_t len, int access);
int fake_dereg_mr(struct ibv_mr *mr);
int fake_advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags,
		   struct ibv_sge *list, uint32_t n);

/* The region that has @key and covers the range with the rights; NULL: none. */
FakeMr *fake_find_mr(struct ibv_pd *pd, guint32 key, gboolean remote, guint64 address, guint64 len,
		     int access);

#define FAKE_MEMORY_VERBS                                                                          \
	.alloc_pd = fake_alloc_pd, .dealloc_pd = fake_dealloc_pd, .reg_mr = fake_reg_mr,           \
	.dereg_mr = fake_dereg_mr, .advise_mr = fake_advise_mr

/* ---- fake-cm.c ---- */

#define FAKE_REJECTED_BY_PEER 28 /* the CM's number for a consumer's reject */

struct rdma_event_channel *fake_create_event_channel(FakeDevice *device);
void fake_destroy_event_channel(struct rdma_event_channel *channel);
int fake_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event);
int fake_ack_cm_event(struct rdma_cm_event *event);
int fake_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
		   enum rdma_port_space ps);
int fake_destroy_id(struct rdma_cm_id *id);
int fake_migrate_id(struct rdma_cm_id *id, struct rdma_event_channel *channel);
int fake_bind_addr(struct rdma_cm_id *id, struct sockaddr *address);
int fake_listen(struct rdma_cm_id *id, int backlog);
int fake_resolve_addr(struct rdma_cm_id *id, struct sockaddr *source, struct sockaddr *destination,
		      int timeout_ms);
int fake_resolve_route(struct rdma_cm_id *id, int timeout_ms);
int fake_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t len);

/* Puts an event on the id's channel; @counted: see FakeEvent. Under the lock, as all below. */
void fake_push_event(FakeId *id, FakeId *counted, enum rdma_cm_event_type type, int status,
		     const struct rdma_conn_param *param, guint data_len);
/* The process behind @id goes: its peer is told. */
void fake_leave(FakeId *id);
void fake_tell_disconnected(FakeId *id);
/* A new id on @channel. */
FakeId *fake_new_id(FakeDevice *device, struct rdma_event_channel *channel, void *context,
		    enum rdma_port_space ps);
/* Who listens where @address leads; NULL: nobody. */
FakeId *fake_find_listener(FakeNic *nic, struct sockaddr *address);

#define FAKE_CM_VERBS                                                                              \
	.destroy_event_channel = fake_destroy_event_channel, .get_cm_event = fake_get_cm_event,    \
	.ack_cm_event = fake_ack_cm_event, .create_id = fake_create_id,                            \
	.destroy_id = fake_destroy_id, .migrate_id = fake_migrate_id, .bind_addr = fake_bind_addr, \
	.listen = fake_listen, .resolve_addr = fake_resolve_addr,                                  \
	.resolve_route = fake_resolve_route, .set_option = fake_set_option

/* ---- fake-connect.c ---- */

int fake_connect(struct rdma_cm_id *id, struct rdma_conn_param *param);
int fake_accept(struct rdma_cm_id *id, struct rdma_conn_param *param);
int fake_reject(struct rdma_cm_id *id, const void *data, uint8_t len);
int fake_disconnect(struct rdma_cm_id *id);

/* Sends the events whose time has come; *@next: when the next does, if that is earlier. */
void fake_run_timers(FakeNic *nic, gint64 now, gint64 *next);

#define FAKE_CONNECT_VERBS                                                                         \
	.connect = fake_connect, .accept = fake_accept, .reject = fake_reject,                     \
	.disconnect = fake_disconnect

/* ---- fake-queue.c ---- */

int fake_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
void fake_destroy_qp(struct rdma_cm_id *id);
struct ibv_comp_channel *fake_create_comp_channel(struct ibv_context *context);
int fake_destroy_comp_channel(struct ibv_comp_channel *channel);
struct ibv_cq *fake_create_cq(struct ibv_context *context, int n, void *user,
			      struct ibv_comp_channel *channel, int vector);
int fake_destroy_cq(struct ibv_cq *cq);
int fake_req_notify_cq(struct ibv_cq *cq, int solicited_only);
int fake_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **user);
void fake_ack_cq_events(struct ibv_cq *cq, unsigned int n);
int fake_poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc);
int fake_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int fake_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
int fake_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
		  struct ibv_qp_init_attr *init);
int fake_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);

/* A completion; overruns are a problem and an asynchronous event. */
void fake_complete(FakeQp *qp, struct ibv_cq *cq, const struct ibv_wc *wc, guint frees);
/* The send at the head is done. */
void fake_complete_send(FakeQp *qp, enum ibv_wc_status status);
/* To the error state: everything posted is flushed. */
void fake_flush(FakeQp *qp);

#define FAKE_QUEUE_VERBS                                                                           \
	.create_qp = fake_create_qp, .destroy_qp = fake_destroy_qp,                                \
	.create_comp_channel = fake_create_comp_channel,                                           \
	.destroy_comp_channel = fake_destroy_comp_channel, .create_cq = fake_create_cq,            \
	.destroy_cq = fake_destroy_cq, .req_notify_cq = fake_req_notify_cq,                        \
	.get_cq_event = fake_get_cq_event, .ack_cq_events = fake_ack_cq_events,                    \
	.poll_cq = fake_poll_cq, .post_send = fake_post_send, .post_recv = fake_post_recv,         \
	.query_qp = fake_query_qp, .modify_qp = fake_modify_qp

/* ---- fake-wire.c ---- */

gpointer fake_wire(gpointer nic); /* the thread */
void fake_kept_free(gpointer kept);
/* What was kept for @qp and came before fence @epoch becomes visible, in any order; @key: of that
 * region only; 0: all. */
void fake_land(FakeQp *qp, guint32 key, guint epoch);
/* About @qp, or its completion queue, or the port: as the type asks. */
void fake_async(FakeDevice *device, enum ibv_event_type type, FakeQp *qp);
gboolean fake_is_about_qp(enum ibv_event_type type);
/* Events that nobody took about a queue pair or completion queue that goes. */
void fake_forget_asyncs(FakeDevice *device, gpointer object);
