/* SPDX-License-Identifier: BSD-2-Clause */
#include "multifd.h"

typedef struct {
	FerryFabric base;
	const FerryTransport *transport; /* the source's */
	char *uri;                       /* the source's */
	FerrySocketListener *listener;   /* the destination's; borrowed */
} Multifd;

static FerryCarrier *open_source(FerryFabric *fabric, const FerryFabricSession *session)
{
	Multifd *multifd = (Multifd *)fabric;

	return ferry_multifd_source_new(multifd->transport, multifd->uri, session);
}

static FerryCarrier *open_destination(FerryFabric *fabric, const FerryFabricSession *session)
{
	return ferry_multifd_destination_new(((Multifd *)fabric)->listener, session);
}

static void multifd_close(FerryFabric *fabric)
{
	g_free(((Multifd *)fabric)->uri);
	g_free(fabric);
}

#define OPS(side)                                                                                  \
	.name = "multifd", .feature = FERRY_FEATURE_MULTIFD,                                       \
	.first_record = FERRY_RECORD_MULTIFD_OFFER, .last_record = FERRY_RECORD_MULTIFD_LAST,      \
	.open = (side), .close = multifd_close

static const FerryFabricOps source_ops = { OPS(open_source) };
static const FerryFabricOps destination_ops = { OPS(open_destination) };

FerryFabric *ferry_multifd_source_fabric_new(const FerryTransport *transport, const char *uri)
{
	Multifd *multifd = g_new0(Multifd, 1);

	multifd->base.ops = &source_ops;
	multifd->transport = transport;
	multifd->uri = g_strdup(uri);
	return &multifd->base;
}

FerryFabric *ferry_multifd_destination_fabric_new(FerrySocketListener *listener)
{
	Multifd *multifd = g_new0(Multifd, 1);

	multifd->base.ops = &destination_ops;
	multifd->listener = listener;
	return &multifd->base;
}

/* ---- what both sides say ---- */

FerryMultifdTerms ferry_multifd_terms(FerrySettings *settings)
{
	return (FerryMultifdTerms){
		(guint32)ferry_settings_get_parameter(settings, FERRY_PARAMETER_MULTIFD_CHANNELS),
		(guint32)ferry_settings_get_parameter(settings,
						      FERRY_PARAMETER_MULTIFD_COMPRESSION),
	};
}

void ferry_multifd_put_terms(guint8 *out, const FerryMultifdTerms *terms)
{
	ferry_store_be32(out, terms->channels);
	ferry_store_be32(out + 4, terms->compression);
}

gboolean ferry_multifd_check_terms(const guint8 *payload, size_t len, const FerryMultifdTerms *ours,
				   GError **error)
{
	FerryMultifdTerms theirs;

	if (len != FERRY_MULTIFD_TERMS_SIZE) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "multifd: a record of %zu bytes instead of %u", len,
			    FERRY_MULTIFD_TERMS_SIZE);
		return FALSE;
	}
	theirs = (FerryMultifdTerms){ ferry_load_be32(payload), ferry_load_be32(payload + 4) };
	if (theirs.channels != ours->channels)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			    "multifd-channels is %u at the source and %u at the destination: set "
			    "the same on both sides",
			    theirs.channels, ours->channels);
	else if (theirs.compression != ours->compression)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_MISMATCH,
			    "multifd-compression is %s at the source and %s at the destination: "
			    "set the same on both sides",
			    ferry_multifd_compression_name(theirs.compression),
			    ferry_multifd_compression_name(ours->compression));
	else
		return TRUE;
	return FALSE;
}

GVariant *ferry_multifd_describe(const FerryMultifdTerms *terms, guint n, const guint64 *bytes,
				 gboolean asked, gboolean zero_copy)
{
	const char *compression = ferry_multifd_compression_name(terms->compression);
	GVariantBuilder all, each;

	g_variant_builder_init(&each, G_VARIANT_TYPE("at"));
	for (guint i = 0; i < n; i++)
		g_variant_builder_add(&each, "t", bytes[i]);
	g_variant_builder_init(&all, G_VARIANT_TYPE_VARDICT);
	g_variant_builder_add(&all, "{sv}", "multifd-channels", g_variant_new_uint32(n));
	g_variant_builder_add(&all, "{sv}", "multifd-compression",
			      g_variant_new_string(compression));
	g_variant_builder_add(&all, "{sv}", "channel-bytes", g_variant_builder_end(&each));
	if (asked)
		g_variant_builder_add(&all, "{sv}", "zero-copy-send",
				      g_variant_new_boolean(zero_copy));
	return g_variant_builder_end(&all);
}
