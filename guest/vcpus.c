/* SPDX-License-Identifier: BSD-2-Clause */
#include "vcpus.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "program.h"

typedef struct {
	FerryVcpus *vcpus;
	guint index;
	GThread *thread;
	pthread_t self; /* valid once started, as the next; all under the lock */
	gint32 id;      /* gettid(2) */
	gboolean started;
	gboolean active; /* run() has been asked for and has not returned; under the lock */
} Vcpu;

struct FerryVcpus {
	const FerryVcpuOps *ops;
	gpointer machine;
	GMutex lock;
	GCond changed; /* of stopping, started, active and quit */
	gint stopping; /* atomic; written under the lock */
	gboolean quit; /* under the lock */
	Vcpu vcpu[FERRY_VCPUS_MAX];
};

/* From here on the thread can be sent the signal. */
static void announce_thread(Vcpu *vcpu)
{
	FerryVcpus *vcpus = vcpu->vcpus;
	sigset_t set;

	sigemptyset(&set);
	if (vcpus->ops->signal)
		sigaddset(&set, vcpus->ops->signal);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	g_mutex_lock(&vcpus->lock);
	vcpu->self = pthread_self();
	vcpu->id = gettid();
	vcpu->started = TRUE;
	g_cond_broadcast(&vcpus->changed);
	g_mutex_unlock(&vcpus->lock);
}

static gboolean wait_until_active(Vcpu *vcpu)
{
	FerryVcpus *vcpus = vcpu->vcpus;
	gboolean active;

	g_mutex_lock(&vcpus->lock);
	while (!vcpu->active && !vcpus->quit)
		g_cond_wait(&vcpus->changed, &vcpus->lock);
	active = vcpu->active;
	g_mutex_unlock(&vcpus->lock);
	return active;
}

static gpointer vcpu_thread(gpointer data)
{
	Vcpu *vcpu = data;
	FerryVcpus *vcpus = vcpu->vcpus;

	announce_thread(vcpu);
	while (wait_until_active(vcpu)) {
		vcpus->ops->run(vcpus->machine, vcpu->index);
		g_mutex_lock(&vcpus->lock);
		vcpu->active = FALSE;
		g_cond_broadcast(&vcpus->changed);
		g_mutex_unlock(&vcpus->lock);
	}
	return NULL;
}

FerryVcpus *ferry_vcpus_new(const FerryVcpuOps *ops, gpointer machine)
{
	FerryVcpus *vcpus = g_new0(FerryVcpus, 1);

	vcpus->ops = ops;
	vcpus->machine = machine;
	vcpus->stopping = TRUE;
	g_mutex_init(&vcpus->lock);
	g_cond_init(&vcpus->changed);
	return vcpus;
}

void ferry_vcpus_free(FerryVcpus *vcpus)
{
	if (!vcpus)
		return;
	ferry_vcpus_stop(vcpus);
	g_mutex_lock(&vcpus->lock);
	vcpus->quit = TRUE;
	g_cond_broadcast(&vcpus->changed);
	g_mutex_unlock(&vcpus->lock);
	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		g_clear_pointer(&vcpus->vcpu[i].thread, g_thread_join);
	g_cond_clear(&vcpus->changed);
	g_mutex_clear(&vcpus->lock);
	g_free(vcpus);
}

void ferry_vcpus_start(FerryVcpus *vcpus, guint n)
{
	g_mutex_lock(&vcpus->lock);
	g_atomic_int_set(&vcpus->stopping, FALSE);
	for (guint i = 0; i < n; i++) {
		Vcpu *vcpu = &vcpus->vcpu[i];

		vcpu->active = TRUE;
		if (!vcpu->thread) {
			g_autofree char *name = g_strdup_printf("vcpu-%u", i);

			vcpu->vcpus = vcpus;
			vcpu->index = i;
			vcpu->thread = g_thread_new(name, vcpu_thread, vcpu);
		}
	}
	g_cond_broadcast(&vcpus->changed);
	g_mutex_unlock(&vcpus->lock);
}

void ferry_vcpus_stop(FerryVcpus *vcpus)
{
	g_mutex_lock(&vcpus->lock);
	g_atomic_int_set(&vcpus->stopping, TRUE);
	g_cond_broadcast(&vcpus->changed);
	for (guint i = 0; i < FERRY_VCPUS_MAX; i++) {
		Vcpu *vcpu = &vcpus->vcpu[i];

		/* One that has not started yet will see stopping before it runs. */
		if (vcpu->active && vcpu->started && vcpus->ops->signal)
			pthread_kill(vcpu->self, vcpus->ops->signal);
	}
	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		while (vcpus->vcpu[i].active)
			g_cond_wait(&vcpus->changed, &vcpus->lock);
	g_mutex_unlock(&vcpus->lock);
}

guint ferry_vcpus_threads(FerryVcpus *vcpus, gint32 *ids, guint max)
{
	guint n = 0;

	g_mutex_lock(&vcpus->lock);
	for (guint i = 0; i < FERRY_VCPUS_MAX && n < max; i++) {
		Vcpu *vcpu = &vcpus->vcpu[i];

		while (vcpu->thread && !vcpu->started)
			g_cond_wait(&vcpus->changed, &vcpus->lock);
		if (vcpu->thread)
			ids[n++] = vcpu->id;
	}
	g_mutex_unlock(&vcpus->lock);
	return n;
}

gboolean ferry_vcpus_stopping(FerryVcpus *vcpus)
{
	return __atomic_load_n(&vcpus->stopping, __ATOMIC_RELAXED);
}

void ferry_vcpus_sleep_until(FerryVcpus *vcpus, gint64 time_us)
{
	g_mutex_lock(&vcpus->lock);
	while (!vcpus->stopping && g_cond_wait_until(&vcpus->changed, &vcpus->lock, time_us))
		;
	g_mutex_unlock(&vcpus->lock);
}
