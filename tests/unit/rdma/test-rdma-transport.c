/* SPDX-License-Identifier: BSD-2-Clause */
#include <harness.h>
#include <string.h>

#include <ferry/fabric.h>
#include <ferry/transport.h>
#include "rdma/messages.h"
#include "rdma/refuse.h"

static const FerryTransport *rdma(void)
{
	return ferry_transport_find(ferry_transports(), "rdma:", NULL);
}

/* ---- the transport ---- */

static void rdma_transports__list__sockets_and_rdma(void)
{
	guint sockets = 0, all = 0;

	while (ferry_socket_transports()[sockets])
		sockets++;
	while (ferry_transports()[all])
		all++;
	CU_ASSERT_EQUAL(all, sockets + 1);
	CU_ASSERT_PTR_NOT_NULL(rdma());
	CU_ASSERT(rdma()->names_place);
	CU_ASSERT_PTR_NULL(ferry_transport_find(ferry_socket_transports(), "rdma:", NULL));
}

static void rdma_uri__malformed__error_names_it(void)
{
	const char *wrong[] = { "rdma:", "rdma:localhost", "rdma:localhost:99999", "rdma:[::1:1" };

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(GError) connect = NULL, listen = NULL;

		CU_ASSERT_PTR_NULL(rdma()->connect(wrong[i], 100, NULL, &connect));
		CU_ASSERT_PTR_NULL(rdma()->listen(wrong[i], NULL, &listen));
		CU_ASSERT(g_error_matches(connect, FERRY_ERROR, FERRY_ERROR_INVALID));
		CU_ASSERT(connect && strstr(connect->message, wrong[i]) &&
			  !strstr(connect->message, "tcp:"));
		CU_ASSERT(listen && strstr(listen->message, wrong[i]) &&
			  !strstr(listen->message, "tcp:"));
	}
}

static void rdma_connect__nobody_listens__error_names_the_uri(void)
{
	g_autoptr(GError) error = NULL;

	/* Port 1 is nobody's. */
	CU_ASSERT_PTR_NULL(rdma()->connect("rdma:127.0.0.1:1", 1000, NULL, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_LINK));
	CU_ASSERT(error && g_str_has_prefix(error->message, "rdma:127.0.0.1:1: "));
}

typedef struct {
	FerryListener *listener;
	FerryChannel *channel;
} Accepted;

static gpointer accept_one(gpointer user)
{
	Accepted *accepted = user;

	accepted->channel = accepted->listener->ops->accept(accepted->listener, NULL, NULL);
	return NULL;
}

/* With or without a device in this host: the control channel is TCP. */
static void rdma_listen__any_host__uri_with_its_port_and_a_channel(void)
{
	g_autoptr(FerryListener) listener = rdma()->listen("rdma:127.0.0.1:0", NULL, NULL);
	g_autoptr(FerryChannel) channel = NULL;
	Accepted accepted = { listener };
	GThread *thread;
	guint8 byte = 0;

	CU_ASSERT_PTR_NOT_NULL(listener);
	if (!listener)
		return;
	CU_ASSERT(g_str_has_prefix(listener->uri, "rdma:127.0.0.1:"));
	CU_ASSERT(!g_str_has_suffix(listener->uri, ":0"));
	CU_ASSERT(listener->again);
	CU_ASSERT_PTR_NOT_NULL(listener->fabric);
	CU_ASSERT_STRING_EQUAL(listener->fabric->ops->name, "rdma");
	thread = g_thread_new("accept", accept_one, &accepted);
	channel = rdma()->connect(listener->uri, 5000, NULL, NULL);
	g_thread_join(thread);
	CU_ASSERT(channel && accepted.channel);
	if (channel && accepted.channel) {
		CU_ASSERT(ferry_channel_write_all(channel, "x", 1, NULL));
		CU_ASSERT_EQUAL(accepted.channel->ops->read(accepted.channel,
							    &(struct iovec){ &byte, 1 }, 1, NULL),
				1);
		CU_ASSERT_EQUAL(byte, 'x');
	}
	ferry_channel_close(accepted.channel);
}

static void rdma_accept__cancelled__ends(void)
{
	g_autoptr(FerryListener) listener = rdma()->listen("rdma:127.0.0.1:0", NULL, NULL);
	g_autoptr(GCancellable) cancellable = g_cancellable_new();
	g_autoptr(GError) error = NULL;

	g_cancellable_cancel(cancellable);
	CU_ASSERT_PTR_NULL(listener->ops->accept(listener, cancellable, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_CANCELLED));
	CU_ASSERT(error && !strstr(error->message, "tcp:"));
}

static void rdma_fabric__of_a_uri__there(void)
{
	FerryFabric *fabric = rdma()->fabric("rdma:[::1]:4444");

	CU_ASSERT_STRING_EQUAL(fabric->ops->name, "rdma");
	ferry_fabric_close(fabric);
}

/* ---- a carrier that refuses ---- */

typedef struct {
	guint16 type;
	char text[1024];
	guint said;
} Said;

static gboolean say(gpointer user, guint16 type, const guint8 *payload, size_t len)
{
	Said *said = user;

	said->type = type;
	memcpy(said->text, payload, MIN(len, sizeof(said->text) - 1));
	said->said++;
	return TRUE;
}

static void rdma_refusing__source__share_ram_fails_with_the_reason(void)
{
	FerryFabricSession session = { .source = TRUE };
	g_autoptr(FerryCarrier) carrier = ferry_rdma_refusing_carrier("no device", &session);
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(carrier->ops->share_ram(carrier, NULL, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_NOSUPP));
	CU_ASSERT_STRING_EQUAL(error->message, "no device");
}

static void rdma_refusing__destination__answers_an_offer_with_the_reason(void)
{
	Said said = { 0 };
	FerryFabricSession session = { .say = say, .user = &said };
	g_autoptr(FerryCarrier) carrier = ferry_rdma_refusing_carrier("no device", &session);
	g_autoptr(GError) error = NULL;

	CU_ASSERT(carrier->ops->share_ram(carrier, NULL, NULL));
	CU_ASSERT(carrier->ops->hear(carrier, FERRY_RECORD_RDMA_OFFER, NULL, 0, NULL));
	CU_ASSERT_EQUAL(said.said, 1);
	CU_ASSERT_EQUAL(said.type, FERRY_RECORD_RDMA_REFUSE);
	CU_ASSERT_STRING_EQUAL(said.text, "no device");
	CU_ASSERT_FALSE(carrier->ops->hear(carrier, FERRY_RECORD_RDMA_REGISTER, NULL, 0, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	CU_ASSERT_FALSE(carrier->ops->await_fence(carrier, 1, NULL));
}

static void rdma_refusal__long_reason__cut_between_characters(void)
{
	g_autoptr(GString) why = g_string_new("x");
	g_autoptr(GBytes) refusal = NULL;
	gsize len;
	const char *text;

	while (why->len < 2000)
		g_string_append(why, "ä");
	refusal = ferry_rdma_refusal(why->str);
	text = g_bytes_get_data(refusal, &len);
	CU_ASSERT_EQUAL(len, 503);
	CU_ASSERT(g_utf8_validate(text, (gssize)len, NULL));
}

static void rdma_refusal__short_reason__whole(void)
{
	g_autoptr(GBytes) refusal = ferry_rdma_refusal("no");

	CU_ASSERT_EQUAL(g_bytes_get_size(refusal), 2);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(rdma_transports__list__sockets_and_rdma),
		CASE(rdma_uri__malformed__error_names_it),
		CASE(rdma_connect__nobody_listens__error_names_the_uri),
		CASE(rdma_listen__any_host__uri_with_its_port_and_a_channel),
		CASE(rdma_accept__cancelled__ends),
		CASE(rdma_fabric__of_a_uri__there),
		CASE(rdma_refusing__source__share_ram_fails_with_the_reason),
		CASE(rdma_refusing__destination__answers_an_offer_with_the_reason),
		CASE(rdma_refusal__long_reason__cut_between_characters),
		CASE(rdma_refusal__short_reason__whole),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "rdma-transport", cases);
}
