/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-private.h"

#include <errno.h>

struct ibv_pd *fake_alloc_pd(struct ibv_context *context)
{
	FakeDevice *device = fake_device(context);
	int error = fake_enter(device, FAKE_ALLOC_PD);
	FakePd *pd;

	if (error) {
		errno = error;
		return NULL;
	}
	pd = g_new0(FakePd, 1);
	pd->pd.context = context;
	g_mutex_lock(&device->nic->lock);
	device->counts.pds++;
	g_mutex_unlock(&device->nic->lock);
	return &pd->pd;
}

int fake_dealloc_pd(struct ibv_pd *ibv_pd)
{
	FakePd *pd = (FakePd *)ibv_pd;
	FakeDevice *device = fake_device(ibv_pd->context);
	int error = fake_enter(device, FAKE_DEALLOC_PD);

	g_mutex_lock(&device->nic->lock);
	if (pd->users) {
		fake_problem(device->nic, "ibv_dealloc_pd: EBUSY: %u regions or queue pairs in it",
			     pd->users);
		error = EBUSY;
	} else {
		device->counts.pds--;
		g_free(pd);
	}
	g_mutex_unlock(&device->nic->lock);
	return error;
}

static int check_registration(FakeNic *nic, void *address, size_t len, int access)
{
	if (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC) &&
	    !(access & IBV_ACCESS_LOCAL_WRITE))
		return EINVAL;
	if (access & IBV_ACCESS_ON_DEMAND && !nic->config.on_demand)
		return EOPNOTSUPP;
	return address && len ? 0 : EINVAL;
}

struct ibv_mr *fake_reg_mr(struct ibv_pd *pd, void *address, size_t len, int access)
{
	FakeDevice *device = fake_device(pd->context);
	FakeNic *nic = device->nic;
	int error = fake_enter(device, FAKE_REG_MR);
	FakeMr *mr;

	if (!error)
		error = check_registration(nic, address, len, access);
	if (error) {
		errno = error;
		return NULL;
	}
	mr = g_new0(FakeMr, 1);
	g_mutex_lock(&nic->lock);
	mr->mr = (struct ibv_mr){ .context = pd->context,
				  .pd = pd,
				  .addr = address,
				  .length = len,
				  .lkey = nic->next_key,
				  .rkey = nic->next_key + 1 };
	mr->access = access;
	nic->next_key += 0x102; /* keys of regions that are gone do not come back */
	g_hash_table_insert(nic->mrs, GUINT_TO_POINTER(mr->mr.lkey), mr);
	g_hash_table_insert(nic->mrs, GUINT_TO_POINTER(mr->mr.rkey), mr);
	((FakePd *)pd)->users++;
	device->counts.mrs++;
	device->registered += len;
	device->registered_peak = MAX(device->registered_peak, device->registered);
	g_mutex_unlock(&nic->lock);
	return &mr->mr;
}

/* What is on its way into the region lands before: a device that let go of memory writes it no
 * more. */
static void land_in_region(FakeNic *nic, FakeMr *mr)
{
	for (guint i = 0; i < nic->qps->len; i++)
		fake_land(nic->qps->pdata[i], mr->mr.rkey, G_MAXUINT);
}

int fake_dereg_mr(struct ibv_mr *ibv_mr)
{
	FakeMr *mr = (FakeMr *)ibv_mr;
	FakeDevice *device = fake_device(ibv_mr->context);
	FakeNic *nic = device->nic;
	int error = fake_enter(device, FAKE_DEREG_MR);

	g_mutex_lock(&nic->lock);
	land_in_region(nic, mr);
	g_hash_table_remove(nic->mrs, GUINT_TO_POINTER(mr->mr.lkey));
	g_hash_table_remove(nic->mrs, GUINT_TO_POINTER(mr->mr.rkey));
	((FakePd *)mr->mr.pd)->users--;
	device->counts.mrs--;
	device->registered -= mr->mr.length;
	g_mutex_unlock(&nic->lock);
	g_free(mr);
	return error;
}

int fake_advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags,
		   struct ibv_sge *list, uint32_t n)
{
	FakeDevice *device = fake_device(pd->context);
	FakeNic *nic = device->nic;
	int error = fake_enter(device, FAKE_ADVISE_MR);

	if (!error && !nic->config.on_demand)
		error = EOPNOTSUPP;
	g_mutex_lock(&nic->lock);
	for (guint i = 0; !error && i < n; i++)
		if (!fake_find_mr(pd, list[i].lkey, FALSE, list[i].addr, list[i].length, 0))
			error = EFAULT;
	g_mutex_unlock(&nic->lock);
	return error;
}

FakeMr *fake_find_mr(struct ibv_pd *pd, guint32 key, gboolean remote, guint64 address, guint64 len,
		     int access)
{
	FakeNic *nic = fake_device(pd->context)->nic;
	FakeMr *mr = g_hash_table_lookup(nic->mrs, GUINT_TO_POINTER(key));
	guint64 begin;

	if (!mr || mr->mr.pd != pd || key != (remote ? mr->mr.rkey : mr->mr.lkey) ||
	    (mr->access & access) != access)
		return NULL;
	begin = (guintptr)mr->mr.addr;
	if (address < begin || len > mr->mr.length || address - begin > mr->mr.length - len)
		return NULL;
	return mr;
}
