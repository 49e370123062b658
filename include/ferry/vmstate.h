/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <stddef.h>
#include <ferry/stream.h>

G_BEGIN_DECLS

/*
 * Device state as data: a description lists the fields of a struct, and ferry turns the struct into
 * the stream's bytes and back. The encoding is QEMU's: big-endian integers, fields in the order of
 * the description, optional subsections behind them. docs/vmstate.md teaches it with examples.
 *
 * A description is const and static. Loading treats every byte as hostile: lengths and nesting are
 * bounded before anything is allocated, and errors name the section, the field and the offset.
 */
typedef struct FerryVmstate FerryVmstate;
typedef struct FerryVmstateField FerryVmstateField;

#define FERRY_VMSTATE_NESTING_MAX 16u
#define FERRY_VMSTATE_SUBSECTIONS_MAX 64u           /* of one description */
#define FERRY_VMSTATE_ELEMENTS_MAX (1u << 20)       /* of one array */
#define FERRY_VMSTATE_ELEMENTS_TOTAL_MAX (1u << 24) /* of one device, nested arrays multiplied */
#define FERRY_VMSTATE_BUFFER_MAX (64u << 20)        /* bytes of one variable buffer */

typedef enum {
	FERRY_VMSTATE_U8,
	FERRY_VMSTATE_U16,
	FERRY_VMSTATE_U32,
	FERRY_VMSTATE_U64,
	FERRY_VMSTATE_S8,
	FERRY_VMSTATE_S16,
	FERRY_VMSTATE_S32,
	FERRY_VMSTATE_S64,
	FERRY_VMSTATE_BOOL,   /* gboolean in the struct, one byte 0 or 1 in the stream */
	FERRY_VMSTATE_TIMER,  /* gint64 nanoseconds; -1 is "not armed" */
	FERRY_VMSTATE_BUFFER, /* @size bytes as they are */
	FERRY_VMSTATE_UNUSED, /* @size bytes of padding: zero out, ignored in */
	FERRY_VMSTATE_STRUCT, /* described by @vmstate */
} FerryVmstateKind;

typedef enum {
	FERRY_VMSTATE_SINGLE, /* the member itself */
	FERRY_VMSTATE_ARRAY,  /* @count elements inside the struct */
	/* the member is a pointer to as many elements as the earlier member at @count_offset (width
	 * @count_size bytes) says; never more than @count, which the allocation behind it holds */
	FERRY_VMSTATE_VARRAY,
	FERRY_VMSTATE_POINTER_ARRAY, /* @count pointers to elements, none NULL */
} FerryVmstateShape;

struct FerryVmstateField {
	const char *name; /* NULL ends the list */
	FerryVmstateKind kind;
	FerryVmstateShape shape;
	size_t offset;       /* in the struct */
	size_t size;         /* of one element, bytes; for a variable BUFFER unused */
	size_t count;        /* elements; the upper bound where the count is variable */
	size_t count_offset; /* VARRAY, variable BUFFER: member that holds the count */
	size_t count_size;   /* 1, 2, 4 or 8 */
	guint32 version;     /* present from this version of the description on */
	gboolean (*exists)(gconstpointer opaque, guint32 version_id); /* NULL: always */
	const FerryVmstate *vmstate;                                  /* STRUCT */
};

struct FerryVmstate {
	const char *name;
	guint32 version_id;
	guint32 minimum_version_id;
	int priority; /* higher is saved, and so loaded, first; 0 is normal */
	const FerryVmstateField *fields;
	const FerryVmstate *const *subsections; /* NULL-terminated, or NULL */
	gboolean (*needed)(
		gconstpointer opaque); /* subsections: NULL is always; devices: NULL is always */
	gboolean (*pre_save)(gpointer opaque, GError **error);
	gboolean (*post_save)(gpointer opaque, GError **error); /* also called when saving failed */
	gboolean (*pre_load)(gpointer opaque, GError **error);
	gboolean (*post_load)(gpointer opaque, guint32 version_id, GError **error);
	/* of a device: it has state that cannot be saved; the guest cannot migrate away with it */
	gboolean unmigratable;
};

/*
 * Field initialisers. They refuse at compile time a member whose type is not the one they name.
 * _V forms: present from version @v on; _TEST forms: present where @fn says.
 */
#define FERRY_VMSTATE_TYPE_CHECK(type, st, member)                                                 \
	(0 *                                                                                       \
	 sizeof(char[__builtin_types_compatible_p(type, __typeof__(((st *)0)->member)) ? 1 : -1]))

#define FERRY_VMSTATE_FIELD(k, type, st, member, ver, fn)                                          \
	{                                                                                          \
		.name = #member, .kind = (k), .shape = FERRY_VMSTATE_SINGLE,                       \
		.offset = offsetof(st, member) + FERRY_VMSTATE_TYPE_CHECK(type, st, member),       \
		.size = sizeof(type), .count = 1, .version = (ver), .exists = (fn)                 \
	}
#define FERRY_VMSTATE_UINT8(st, m) FERRY_VMSTATE_FIELD(FERRY_VMSTATE_U8, guint8, st, m, 0, NULL)
#define FERRY_VMSTATE_UINT16(st, m) FERRY_VMSTATE_FIELD(FERRY_VMSTATE_U16, guint16, st, m, 0, NULL)
#define FERRY_VMSTATE_UINT32(st, m) FERRY_VMSTATE_FIELD(FERRY_VMSTATE_U32, guint32, st, m, 0, NULL)
#define FERRY_VMSTATE_UINT64(st, m) FERRY_VMSTATE_FIELD(FERRY_VMSTATE_U64, guint64, st, m, 0, NULL)
#define FERRY_VMSTATE_INT8(st, m) FERRY_VMSTATE_FIELD(FERRY_VMSTATE_S8, gint8, st, m, 0, NULL)
#define FERRY_VMSTATE_INT16(st, m) FERRY_VMSTATE_FIELD(FERRY_VMSTATE_S16, gint16, st, m, 0, NULL)
#define FERRY_VMSTATE_INT32(st, m) FERRY_VMSTATE_FIELD(FERRY_VMSTATE_S32, gint32, st, m, 0, NULL)
#define FERRY_VMSTATE_INT64(st, m) FERRY_VMSTATE_FIELD(FERRY_VMSTATE_S64, gint64, st, m, 0, NULL)
#define FERRY_VMSTATE_BOOLEAN(st, m)                                                               \
	FERRY_VMSTATE_FIELD(FERRY_VMSTATE_BOOL, gboolean, st, m, 0, NULL)
#define FERRY_VMSTATE_TIMER_NS(st, m)                                                              \
	FERRY_VMSTATE_FIELD(FERRY_VMSTATE_TIMER, gint64, st, m, 0, NULL)
#define FERRY_VMSTATE_UINT32_V(st, m, v)                                                           \
	FERRY_VMSTATE_FIELD(FERRY_VMSTATE_U32, guint32, st, m, v, NULL)
#define FERRY_VMSTATE_UINT64_V(st, m, v)                                                           \
	FERRY_VMSTATE_FIELD(FERRY_VMSTATE_U64, guint64, st, m, v, NULL)
#define FERRY_VMSTATE_UINT32_TEST(st, m, fn)                                                       \
	FERRY_VMSTATE_FIELD(FERRY_VMSTATE_U32, guint32, st, m, 0, fn)
#define FERRY_VMSTATE_UINT64_TEST(st, m, fn)                                                       \
	FERRY_VMSTATE_FIELD(FERRY_VMSTATE_U64, guint64, st, m, 0, fn)

/* An array inside the struct: FERRY_VMSTATE_ARRAY_OF(FERRY_VMSTATE_U64, guint64, Dev, regs, 16). */
#define FERRY_VMSTATE_ARRAY_OF(k, type, st, m, n)                                                  \
	{                                                                                          \
		.name = #m, .kind = (k), .shape = FERRY_VMSTATE_ARRAY, .size = sizeof(type),       \
		.offset = offsetof(st, m) + FERRY_VMSTATE_TYPE_CHECK(type[n], st, m), .count = (n) \
	}
/* A pointer to elements whose number is in the member @cnt, at most @max. */
#define FERRY_VMSTATE_VARRAY_OF(k, type, st, m, cnt, max)                                          \
	{                                                                                          \
		.name = #m, .kind = (k), .shape = FERRY_VMSTATE_VARRAY, .size = sizeof(type),      \
		.offset = offsetof(st, m) + FERRY_VMSTATE_TYPE_CHECK(type *, st, m),               \
		.count = (max), .count_offset = offsetof(st, cnt),                                 \
		.count_size = sizeof(((st *)0)->cnt)                                               \
	}
/* @n pointers to elements, inside the struct. */
#define FERRY_VMSTATE_POINTERS_OF(k, type, st, m, n)                                               \
	{                                                                                          \
		.name = #m, .kind = (k), .shape = FERRY_VMSTATE_POINTER_ARRAY,                     \
		.size = sizeof(type),                                                              \
		.offset = offsetof(st, m) + FERRY_VMSTATE_TYPE_CHECK(type *[n], st, m),            \
		.count = (n)                                                                       \
	}
/* A fixed buffer (an array of guint8 inside the struct). */
#define FERRY_VMSTATE_BYTES(st, m)                                                                 \
	{                                                                                          \
		.name = #m, .kind = FERRY_VMSTATE_BUFFER, .shape = FERRY_VMSTATE_SINGLE,           \
		.offset = offsetof(st, m), .size = sizeof(((st *)0)->m), .count = 1                \
	}
/* A guint8 * whose length is in the earlier member @cnt, at most @max bytes. */
#define FERRY_VMSTATE_VBYTES(st, m, cnt, max)                                                      \
	{                                                                                          \
		.name = #m, .kind = FERRY_VMSTATE_BUFFER, .shape = FERRY_VMSTATE_VARRAY,           \
		.size = 1, .offset = offsetof(st, m) + FERRY_VMSTATE_TYPE_CHECK(guint8 *, st, m),  \
		.count = (max), .count_offset = offsetof(st, cnt),                                 \
		.count_size = sizeof(((st *)0)->cnt)                                               \
	}
#define FERRY_VMSTATE_PADDING(bytes)                                                               \
	{                                                                                          \
		.name = "unused", .kind = FERRY_VMSTATE_UNUSED, .shape = FERRY_VMSTATE_SINGLE,     \
		.size = (bytes), .count = 1                                                        \
	}
#define FERRY_VMSTATE_NESTED(st, m, type, desc)                                                    \
	{                                                                                          \
		.name = #m, .kind = FERRY_VMSTATE_STRUCT, .shape = FERRY_VMSTATE_SINGLE,           \
		.offset = offsetof(st, m) + FERRY_VMSTATE_TYPE_CHECK(type, st, m),                 \
		.size = sizeof(type), .count = 1, .vmstate = (desc)                                \
	}
#define FERRY_VMSTATE_NESTED_ARRAY(st, m, n, type, desc)                                           \
	{                                                                                          \
		.name = #m, .kind = FERRY_VMSTATE_STRUCT, .shape = FERRY_VMSTATE_ARRAY,            \
		.offset = offsetof(st, m) + FERRY_VMSTATE_TYPE_CHECK(type[n], st, m),              \
		.size = sizeof(type), .count = (n), .vmstate = (desc)                              \
	}
#define FERRY_VMSTATE_NESTED_POINTERS(st, m, n, type, desc)                                        \
	{                                                                                          \
		.name = #m, .kind = FERRY_VMSTATE_STRUCT, .shape = FERRY_VMSTATE_POINTER_ARRAY,    \
		.offset = offsetof(st, m) + FERRY_VMSTATE_TYPE_CHECK(type *[n], st, m),            \
		.size = sizeof(type), .count = (n), .vmstate = (desc)                              \
	}
#define FERRY_VMSTATE_END                                                                          \
	{                                                                                          \
		.name = NULL                                                                       \
	}

/* ---- the registry ---- */

/* The devices of one guest. Not thread-safe: register before the first migration. */
typedef struct FerryDevices FerryDevices;

FerryDevices *ferry_devices_new(void);
void ferry_devices_free(FerryDevices *devices);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryDevices, ferry_devices_free)

#define FERRY_INSTANCE_ANY G_MAXUINT32 /* the next free instance id of the name */

/*
 * Adds a device. @vmstate and @opaque are borrowed until ferry_devices_free() or _unregister().
 * FERRY_ERROR_INVALID if (name, instance) is taken or the description contradicts itself (no name,
 * minimum above version, nesting too deep, an array of 0).
 */
gboolean ferry_devices_register(FerryDevices *devices, const FerryVmstate *vmstate,
				guint32 instance_id, gpointer opaque,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ferry_devices_unregister(FerryDevices *devices, const FerryVmstate *vmstate, gpointer opaque);

/* The name of a device that is unmigratable; NULL where there is none. */
const char *ferry_devices_unmigratable(FerryDevices *devices);

/*
 * Saves every device as a FULL section with footer, by priority and then order of registration, and
 * appends the JSON description of what was written to @json ({"page_size":4096,"devices":[...]}).
 * @first_section_id: section ids count up from it.
 */
gboolean ferry_devices_save(FerryDevices *devices, guint32 first_section_id, GByteArray *out,
			    GString *json, GError **error);

/* Loads the body and the footer of one FULL section whose header is @element. An unknown device, a
 * version outside of the description's range or a bad byte is FERRY_ERROR_DEVICE; nothing is
 * undone. */
gboolean ferry_devices_load(FerryDevices *devices, FerryStreamReader *reader,
			    const FerryStreamElement *element, GError **error);

/* One description without the registry, as nested in a section's body: for tests and tools. */
gboolean ferry_vmstate_save(const FerryVmstate *vmstate, gpointer opaque, GByteArray *out,
			    GError **error);
gboolean ferry_vmstate_load(const FerryVmstate *vmstate, gpointer opaque, guint32 version_id,
			    FerryStreamReader *reader, GError **error);

/* ---- global state: the run state that travels ---- */

/* Encoded as the device "globalstate", version 1: be32 size, 100 bytes with the NUL-terminated
 * name. */
#define FERRY_GLOBAL_STATE_SIZE 100u
typedef struct {
	guint32 size;
	guint8 runstate[FERRY_GLOBAL_STATE_SIZE];
} FerryGlobalState;
extern const FerryVmstate ferry_global_state_vmstate;

/* @name must be shorter than FERRY_GLOBAL_STATE_SIZE. */
void ferry_global_state_set(FerryGlobalState *state, const char *name);
/* Checks size and terminator; returns the name inside @state, or NULL with @error. */
const char *ferry_global_state_get(const FerryGlobalState *state, GError **error);

G_END_DECLS
