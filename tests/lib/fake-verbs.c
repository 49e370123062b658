/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The calls have no user pointer: one device pair at a time. */
static FakeNic *nic_here;

FakeNic *fake_nic_here(void)
{
	return nic_here;
}

static const char *const verb_names[] = {
	"rdma_create_event_channel",
	"rdma_destroy_event_channel",
	"rdma_get_cm_event",
	"rdma_ack_cm_event",
	"rdma_create_id",
	"rdma_destroy_id",
	"rdma_migrate_id",
	"rdma_bind_addr",
	"rdma_listen",
	"rdma_resolve_addr",
	"rdma_resolve_route",
	"rdma_set_option",
	"rdma_create_qp",
	"rdma_destroy_qp",
	"rdma_connect",
	"rdma_accept",
	"rdma_reject",
	"rdma_disconnect",
	"rdma_get_devices",
	"rdma_free_devices",
	"ibv_query_device_ex",
	"ibv_query_port",
	"ibv_query_gid_ex",
	"ibv_alloc_pd",
	"ibv_dealloc_pd",
	"ibv_reg_mr",
	"ibv_dereg_mr",
	"ibv_advise_mr",
	"ibv_create_comp_channel",
	"ibv_destroy_comp_channel",
	"ibv_create_cq",
	"ibv_destroy_cq",
	"ibv_req_notify_cq",
	"ibv_get_cq_event",
	"ibv_ack_cq_events",
	"ibv_poll_cq",
	"ibv_post_send",
	"ibv_post_recv",
	"ibv_query_qp",
	"ibv_modify_qp",
	"ibv_get_async_event",
	"ibv_ack_async_event",
};
G_STATIC_ASSERT(G_N_ELEMENTS(verb_names) == FAKE__N);

const char *fake_verb_name(FakeVerb verb)
{
	return verb_names[verb];
}

/* ---- events ---- */

void fake_signal(int fd)
{
	guint64 one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		g_error("fake device: eventfd: %s", g_strerror(errno));
}

gboolean fake_take(int fd)
{
	guint64 one;

	return read(fd, &one, sizeof(one)) == sizeof(one);
}

void fake_problem(FakeNic *nic, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_string_append_vprintf(nic->problems, format, args);
	va_end(args);
	g_string_append_c(nic->problems, '\n');
}

int fake_enter(FakeDevice *device, FakeVerb verb)
{
	FakeFault hook = { 0 };
	guint call;
	int error = 0;

	g_mutex_lock(&device->nic->lock);
	call = ++device->calls[verb];
	for (guint i = 0; i < device->faults->len; i++) {
		FakeFault *fault = &g_array_index(device->faults, FakeFault, i);

		if (fault->verb != verb || fault->nth != call)
			continue;
		fault->happened = TRUE;
		device->nic->fault_us = g_get_monotonic_time();
		if (fault->hook)
			hook = *fault;
		else
			error = fault->error;
	}
	g_mutex_unlock(&device->nic->lock);
	if (hook.hook)
		hook.hook(hook.user);
	return error;
}

/* ---- devices ---- */

static struct ibv_context **get_devices(FakeDevice *device, int *n)
{
	struct ibv_context **list;
	int error = fake_enter(device, FAKE_GET_DEVICES);

	if (!error && device->absent)
		error = ENODEV;
	if (error) {
		errno = error;
		return NULL;
	}
	g_mutex_lock(&device->nic->lock);
	device->counts.device_lists++;
	g_mutex_unlock(&device->nic->lock);
	list = g_new0(struct ibv_context *, 2);
	list[0] = &device->context;
	if (n)
		*n = 1;
	return list;
}

static void fake_free_devices(struct ibv_context **devices)
{
	FakeDevice *device = fake_device(devices[0]);

	fake_enter(device, FAKE_FREE_DEVICES);
	g_mutex_lock(&device->nic->lock);
	device->counts.device_lists--;
	g_mutex_unlock(&device->nic->lock);
	g_free(devices);
}

static int fake_query_device_ex(struct ibv_context *context,
				const struct ibv_query_device_ex_input *input,
				struct ibv_device_attr_ex *attr)
{
	FakeDevice *device = fake_device(context);
	FakeConfig *config = &device->nic->config;
	int error = fake_enter(device, FAKE_QUERY_DEVICE_EX);

	if (error)
		return error;
	*attr = (struct ibv_device_attr_ex){
		.orig_attr = { .fw_ver = "fake",
			       .max_mr_size = G_MAXUINT64,
			       .page_size_cap = 0xfffff000,
			       .max_qp = config->max_qp,
			       .max_qp_wr = config->max_qp_wr,
			       .max_sge = 4,
			       .max_cq = 64,
			       .max_cqe = config->max_cqe,
			       .max_mr = 1 << 20,
			       .max_pd = 64,
			       .max_qp_rd_atom = (int)config->max_reads,
			       .max_qp_init_rd_atom = (int)config->max_reads,
			       .phys_port_cnt = 1 },
	};
	if (config->on_demand) {
		attr->odp_caps.general_caps = IBV_ODP_SUPPORT;
		attr->odp_caps.per_transport_caps.rc_odp_caps = IBV_ODP_SUPPORT_WRITE |
								IBV_ODP_SUPPORT_SEND |
								IBV_ODP_SUPPORT_RECV;
	}
	return 0;
}

static int fake_query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr)
{
	FakeDevice *device = fake_device(context);
	int error = fake_enter(device, FAKE_QUERY_PORT);

	if (error || port != 1)
		return error ? error : EINVAL;
	*attr = (struct ibv_port_attr){ .state = IBV_PORT_ACTIVE,
					.max_mtu = IBV_MTU_4096,
					.active_mtu = device->nic->config.active_mtu,
					.gid_tbl_len = 2,
					.max_msg_sz = 1u << 30,
					.link_layer = IBV_LINK_LAYER_ETHERNET };
	return 0;
}

static int fake_query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index,
			     struct ibv_gid_entry *entry, uint32_t flags)
{
	int error = fake_enter(fake_device(context), FAKE_QUERY_GID_EX);

	if (error)
		return error;
	if (port != 1 || index > 1)
		return port != 1 ? EINVAL : ENODATA;
	*entry = (struct ibv_gid_entry){ .gid_index = index,
					 .port_num = port,
					 .gid_type = IBV_GID_TYPE_ROCE_V2,
					 .ndev_ifindex = 1 };
	entry->gid.raw[10] = entry->gid.raw[11] = 0xff;
	memcpy(entry->gid.raw + 12, (const guint8[]){ 127, 0, 0, 1 + index }, 4);
	return 0;
}

static int fake_get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
	FakeDevice *device = fake_device(context);
	struct ibv_async_event *first;
	int error = fake_enter(device, FAKE_GET_ASYNC_EVENT);

	if (error) {
		errno = error;
		return -1;
	}
	if (!fake_take(context->async_fd))
		return -1;
	g_mutex_lock(&device->nic->lock);
	first = g_queue_pop_head(&device->asyncs);
	device->nic->unacked_asyncs++;
	if (fake_is_about_qp(first->event_type))
		((FakeQp *)first->element.qp)->unacked++;
	g_mutex_unlock(&device->nic->lock);
	*event = *first;
	g_free(first);
	return 0;
}

/* Not every event says whose it is: all count together. */
static void fake_ack_async_event(struct ibv_async_event *event)
{
	g_mutex_lock(&nic_here->lock);
	nic_here->unacked_asyncs--;
	if (fake_is_about_qp(event->event_type))
		((FakeQp *)event->element.qp)->unacked--;
	g_mutex_unlock(&nic_here->lock);
}

/* ---- the nic ---- */

static struct rdma_event_channel *create_event_channel_of_source(void)
{
	return fake_create_event_channel(&nic_here->devices[FAKE_SOURCE]);
}

static struct rdma_event_channel *create_event_channel_of_destination(void)
{
	return fake_create_event_channel(&nic_here->devices[FAKE_DESTINATION]);
}

static struct ibv_context **get_devices_of_source(int *n)
{
	return get_devices(&nic_here->devices[FAKE_SOURCE], n);
}

static struct ibv_context **get_devices_of_destination(int *n)
{
	return get_devices(&nic_here->devices[FAKE_DESTINATION], n);
}

#define FAKE_DEVICE_VERBS                                                                          \
	.free_devices = fake_free_devices, .query_device_ex = fake_query_device_ex,                \
	.query_port = fake_query_port, .query_gid_ex = fake_query_gid_ex,                          \
	.get_async_event = fake_get_async_event, .ack_async_event = fake_ack_async_event

static const FerryVerbs verbs_of_sides[] = {
	[FAKE_SOURCE] = { .create_event_channel = create_event_channel_of_source,
			  .get_devices = get_devices_of_source,
			  FAKE_DEVICE_VERBS,
			  FAKE_MEMORY_VERBS,
			  FAKE_CM_VERBS,
			  FAKE_CONNECT_VERBS,
			  FAKE_QUEUE_VERBS },
	[FAKE_DESTINATION] = { .create_event_channel = create_event_channel_of_destination,
			       .get_devices = get_devices_of_destination,
			       FAKE_DEVICE_VERBS,
			       FAKE_MEMORY_VERBS,
			       FAKE_CM_VERBS,
			       FAKE_CONNECT_VERBS,
			       FAKE_QUEUE_VERBS },
};

const FerryVerbs *fake_verbs(FakeSide side)
{
	return &verbs_of_sides[side];
}

static void init_device(FakeNic *nic, FakeSide side)
{
	FakeDevice *device = &nic->devices[side];

	device->nic = nic;
	device->side = side;
	device->faults = g_array_new(FALSE, FALSE, sizeof(FakeFault));
	device->device.node_type = IBV_NODE_CA;
	device->device.transport_type = IBV_TRANSPORT_IB;
	g_snprintf(device->device.name, sizeof(device->device.name), "fake%u", side);
	device->context.device = &device->device;
	device->context.num_comp_vectors = 1;
	device->context.cmd_fd = -1;
	device->context.async_fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	g_queue_init(&device->asyncs);
}

FakeNic *fake_nic_new(guint32 seed)
{
	FakeNic *nic = g_new0(FakeNic, 1);

	g_assert(!nic_here);
	g_mutex_init(&nic->lock);
	g_cond_init(&nic->work);
	nic->config = (FakeConfig){ .max_qp_wr = 4096,
				    .max_cqe = 65536,
				    .max_qp = 64,
				    .max_reads = 16,
				    .active_mtu = IBV_MTU_4096,
				    .retry_us = 50000,
				    .unreachable_us = 50000 };
	nic->problems = g_string_new(NULL);
	nic->random = g_rand_new_with_seed(seed);
	nic->ids = g_ptr_array_new();
	nic->qps = g_ptr_array_new();
	nic->mrs = g_hash_table_new(NULL, NULL);
	nic->next_key = 0x1001;
	nic->timers = g_array_new(FALSE, FALSE, sizeof(FakeTimer));
	for (guint side = 0; side < FAKE_SIDES; side++)
		init_device(nic, side);
	nic_here = nic;
	nic->thread = g_thread_new("fake-nic", fake_wire, nic);
	return nic;
}

void fake_nic_free(FakeNic *nic)
{
	g_mutex_lock(&nic->lock);
	nic->ending = TRUE;
	g_cond_signal(&nic->work);
	g_mutex_unlock(&nic->lock);
	g_thread_join(nic->thread);
	for (guint side = 0; side < FAKE_SIDES; side++) {
		FakeDevice *device = &nic->devices[side];

		g_array_unref(device->faults);
		g_queue_clear_full(&device->asyncs, g_free);
		close(device->context.async_fd);
	}
	g_string_free(nic->problems, TRUE);
	g_rand_free(nic->random);
	g_ptr_array_unref(nic->ids);
	g_ptr_array_unref(nic->qps);
	g_hash_table_unref(nic->mrs);
	g_array_unref(nic->timers);
	g_mutex_clear(&nic->lock);
	g_cond_clear(&nic->work);
	g_free(nic);
	nic_here = NULL;
}
