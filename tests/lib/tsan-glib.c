/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Tells the thread sanitizer what glib's locks order. glib is not built with the sanitizer and
 * makes its locks from futexes, so that without this every datum under a GMutex looks unguarded.
 * Preloaded into each test program of the sanitizer's build; without the sanitizer (a shell,
 * python) the wrappers only pass through.
 */
#include <dlfcn.h>
#include <glib.h>

#define WEAK __attribute__((weak))

/* sanitizer/tsan_interface.h has them, but not as weak symbols. */
WEAK void __tsan_mutex_pre_lock(void *mutex, unsigned int flags);
WEAK void __tsan_mutex_post_lock(void *mutex, unsigned int flags, int recursion);
WEAK int __tsan_mutex_pre_unlock(void *mutex, unsigned int flags);
WEAK void __tsan_mutex_post_unlock(void *mutex, unsigned int flags);
WEAK void __tsan_mutex_destroy(void *mutex, unsigned int flags);
WEAK void __tsan_acquire(void *address);
WEAK void __tsan_release(void *address);

#define LINKER_INIT 1u
#define RECURSIVE 2u
#define READ_LOCK 8u
#define TRY_LOCK 16u
#define TRY_LOCK_FAILED 32u

#define REAL(function)                                                                             \
	static __typeof__(&function) real;                                                         \
	if (!g_atomic_pointer_get(&real))                                                          \
	g_atomic_pointer_set(&real, (__typeof__(&function))dlsym(RTLD_NEXT, #function))

static void before_lock(void *lock, unsigned int flags)
{
	if (__tsan_mutex_pre_lock)
		__tsan_mutex_pre_lock(lock, flags | LINKER_INIT);
}

static void after_lock(void *lock, unsigned int flags)
{
	if (__tsan_mutex_post_lock)
		__tsan_mutex_post_lock(lock, flags | LINKER_INIT, 1);
}

static void before_unlock(void *lock, unsigned int flags)
{
	if (__tsan_mutex_pre_unlock)
		__tsan_mutex_pre_unlock(lock, flags | LINKER_INIT);
}

static void after_unlock(void *lock, unsigned int flags)
{
	if (__tsan_mutex_post_unlock)
		__tsan_mutex_post_unlock(lock, flags | LINKER_INIT);
}

#define WRAP_LOCK(function, Type, flags)                                                           \
	void function(Type *lock)                                                                  \
	{                                                                                          \
		REAL(function);                                                                    \
		before_lock(lock, flags);                                                          \
		real(lock);                                                                        \
		after_lock(lock, flags);                                                           \
	}

#define WRAP_TRY_LOCK(function, Type, flags)                                                       \
	gboolean function(Type *lock)                                                              \
	{                                                                                          \
		gboolean ok;                                                                       \
		REAL(function);                                                                    \
		before_lock(lock, (flags) | TRY_LOCK);                                             \
		ok = real(lock);                                                                   \
		after_lock(lock, (flags) | TRY_LOCK | (ok ? 0 : TRY_LOCK_FAILED));                 \
		return ok;                                                                         \
	}

#define WRAP_UNLOCK(function, Type, flags)                                                         \
	void function(Type *lock)                                                                  \
	{                                                                                          \
		REAL(function);                                                                    \
		before_unlock(lock, flags);                                                        \
		real(lock);                                                                        \
		after_unlock(lock, flags);                                                         \
	}

#define WRAP_CLEAR(function, Type)                                                                 \
	void function(Type *lock)                                                                  \
	{                                                                                          \
		REAL(function);                                                                    \
		if (__tsan_mutex_destroy)                                                          \
			__tsan_mutex_destroy(lock, LINKER_INIT);                                   \
		real(lock);                                                                        \
	}

WRAP_LOCK(g_mutex_lock, GMutex, 0)
WRAP_TRY_LOCK(g_mutex_trylock, GMutex, 0)
WRAP_UNLOCK(g_mutex_unlock, GMutex, 0)
WRAP_LOCK(g_rec_mutex_lock, GRecMutex, RECURSIVE)
WRAP_TRY_LOCK(g_rec_mutex_trylock, GRecMutex, RECURSIVE)
WRAP_UNLOCK(g_rec_mutex_unlock, GRecMutex, RECURSIVE)
WRAP_LOCK(g_rw_lock_writer_lock, GRWLock, 0)
WRAP_TRY_LOCK(g_rw_lock_writer_trylock, GRWLock, 0)
WRAP_UNLOCK(g_rw_lock_writer_unlock, GRWLock, 0)
WRAP_LOCK(g_rw_lock_reader_lock, GRWLock, READ_LOCK)
WRAP_TRY_LOCK(g_rw_lock_reader_trylock, GRWLock, READ_LOCK)
WRAP_UNLOCK(g_rw_lock_reader_unlock, GRWLock, READ_LOCK)

WRAP_CLEAR(g_mutex_clear, GMutex)
WRAP_CLEAR(g_rec_mutex_clear, GRecMutex)
WRAP_CLEAR(g_rw_lock_clear, GRWLock)

/* A wait unlocks and locks inside glib, where the wrappers above are not seen. */
void g_cond_wait(GCond *cond, GMutex *mutex)
{
	REAL(g_cond_wait);
	before_unlock(mutex, 0);
	after_unlock(mutex, 0);
	real(cond, mutex);
	before_lock(mutex, 0);
	after_lock(mutex, 0);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
	gboolean ok;

	REAL(g_cond_wait_until);
	before_unlock(mutex, 0);
	after_unlock(mutex, 0);
	ok = real(cond, mutex, end_time);
	before_lock(mutex, 0);
	after_lock(mutex, 0);
	return ok;
}

/* What happened before an item was pushed happened before whoever got it goes on. */
void g_async_queue_push(GAsyncQueue *queue, gpointer item)
{
	REAL(g_async_queue_push);
	if (__tsan_release)
		__tsan_release(item);
	real(queue, item);
}

static gpointer popped(gpointer item)
{
	if (item && __tsan_acquire)
		__tsan_acquire(item);
	return item;
}

gpointer g_async_queue_pop(GAsyncQueue *queue)
{
	REAL(g_async_queue_pop);
	return popped(real(queue));
}

gpointer g_async_queue_try_pop(GAsyncQueue *queue)
{
	REAL(g_async_queue_try_pop);
	return popped(real(queue));
}

gpointer g_async_queue_timeout_pop(GAsyncQueue *queue, guint64 timeout)
{
	REAL(g_async_queue_timeout_pop);
	return popped(real(queue, timeout));
}

/* What happened before a source was attached happened before its callback. */
typedef struct {
	GSourceFunc function;
	gpointer data;
	GDestroyNotify destroy;
} Callback;

static gboolean call(gpointer user)
{
	Callback *callback = user;

	if (__tsan_acquire)
		__tsan_acquire(callback);
	return callback->function(callback->data);
}

static void destroy(gpointer user)
{
	Callback *callback = user;

	if (__tsan_acquire)
		__tsan_acquire(callback);
	if (callback->destroy)
		callback->destroy(callback->data);
	g_free(callback);
}

void g_main_context_invoke_full(GMainContext *context, gint priority, GSourceFunc function,
				gpointer data, GDestroyNotify notify)
{
	Callback *callback = g_new(Callback, 1);

	REAL(g_main_context_invoke_full);
	*callback = (Callback){ function, data, notify };
	if (__tsan_release)
		__tsan_release(callback);
	real(context, priority, call, callback, destroy);
}

void g_main_context_invoke(GMainContext *context, GSourceFunc function, gpointer data)
{
	g_main_context_invoke_full(context, G_PRIORITY_DEFAULT, function, data, NULL);
}
