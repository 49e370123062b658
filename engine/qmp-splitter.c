/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-splitter.h"

#include <ferry/error.h>

typedef enum {
	BETWEEN, /* white space between two values */
	BARE,    /* something that began with neither { nor [ */
	INSIDE,  /* in an object or array, outside of its strings */
	STRING,
	ESCAPE, /* in a string, after a backslash */
	SKIP,   /* after an error: up to the end of the line */
} SplitState;

struct FerryQmpSplitter {
	GString *input; /* bytes pushed and not looked at: from @at on */
	size_t at;
	GString *value; /* the value under way */
	SplitState state;
	guint depth;
	guint64 arrays; /* bit n: the bracket of depth n+1 is [ and not { */
};
G_STATIC_ASSERT(FERRY_QMP_DEPTH_MAX <= 64);

FerryQmpSplitter *ferry_qmp_splitter_new(void)
{
	FerryQmpSplitter *splitter = g_new0(FerryQmpSplitter, 1);

	splitter->input = g_string_new(NULL);
	splitter->value = g_string_new(NULL);
	return splitter;
}

void ferry_qmp_splitter_free(FerryQmpSplitter *splitter)
{
	if (!splitter)
		return;
	g_string_free(splitter->input, TRUE);
	g_string_free(splitter->value, TRUE);
	g_free(splitter);
}

void ferry_qmp_splitter_push(FerryQmpSplitter *splitter, const char *data, size_t len)
{
	g_string_erase(splitter->input, 0, splitter->at);
	splitter->at = 0;
	g_string_append_len(splitter->input, data, len);
}

static void reset(FerryQmpSplitter *splitter, SplitState state)
{
	g_string_truncate(splitter->value, 0);
	splitter->state = state;
	splitter->depth = 0;
	splitter->arrays = 0;
}

static FerryQmpSplit bad(FerryQmpSplitter *splitter, SplitState next, GError **error,
			 const char *why)
{
	reset(splitter, next);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "JSON parse error, %s", why);
	return FERRY_QMP_SPLIT_BAD;
}

/* The value under way is complete. */
static FerryQmpSplit finish(FerryQmpSplitter *splitter, JsonNode **value, GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new_immutable();
	g_autoptr(GError) why = NULL;

	if (!g_utf8_validate(splitter->value->str, splitter->value->len, NULL))
		return bad(splitter, BETWEEN, error, "invalid UTF-8");
	if (!json_parser_load_from_data(parser, splitter->value->str, splitter->value->len, &why))
		return bad(splitter, BETWEEN, error, why->message);
	reset(splitter, BETWEEN);
	*value = json_parser_steal_root(parser);
	return *value ? FERRY_QMP_SPLIT_VALUE : FERRY_QMP_SPLIT_MORE;
}

static FerryQmpSplit open_bracket(FerryQmpSplitter *splitter, char c, GError **error)
{
	if (splitter->depth == FERRY_QMP_DEPTH_MAX)
		return bad(splitter, SKIP, error, "nesting depth limit exceeded");
	if (c == '[')
		splitter->arrays |= G_GUINT64_CONSTANT(1) << splitter->depth;
	else
		splitter->arrays &= ~(G_GUINT64_CONSTANT(1) << splitter->depth);
	splitter->depth++;
	splitter->state = INSIDE;
	return FERRY_QMP_SPLIT_MORE;
}

static FerryQmpSplit close_bracket(FerryQmpSplitter *splitter, char c, JsonNode **value,
				   GError **error)
{
	gboolean array = splitter->arrays >> (splitter->depth - 1) & 1;

	if (array != (c == ']'))
		return bad(splitter, SKIP, error, array ? "} where ] is due" : "] where } is due");
	if (--splitter->depth)
		return FERRY_QMP_SPLIT_MORE;
	return finish(splitter, value, error);
}

static FerryQmpSplit inside(FerryQmpSplitter *splitter, char c, JsonNode **value, GError **error)
{
	switch (c) {
	case '"':
		splitter->state = STRING;
		return FERRY_QMP_SPLIT_MORE;
	case '{':
	case '[':
		return open_bracket(splitter, c, error);
	case '}':
	case ']':
		return close_bracket(splitter, c, value, error);
	default:
		return FERRY_QMP_SPLIT_MORE;
	}
}

static FerryQmpSplit string(FerryQmpSplitter *splitter, char c, GError **error)
{
	/* JSON has no raw control characters: here somebody forgot a quote, so begin again. */
	if ((guchar)c < 0x20)
		return bad(splitter, c == '\n' ? BETWEEN : SKIP, error,
			   "control character in a string");
	if (splitter->state == ESCAPE)
		splitter->state = STRING;
	else if (c == '\\')
		splitter->state = ESCAPE;
	else if (c == '"')
		splitter->state = INSIDE;
	return FERRY_QMP_SPLIT_MORE;
}

/* Takes one byte. *@again: it ended the value before it, so look at it once more. */
static FerryQmpSplit take(FerryQmpSplitter *splitter, char c, gboolean *again, JsonNode **value,
			  GError **error)
{
	gboolean opens = c == '{' || c == '[';

	if (splitter->state == SKIP) {
		if (c == '\n')
			reset(splitter, BETWEEN);
		return FERRY_QMP_SPLIT_MORE;
	}
	if (splitter->state == BETWEEN && g_ascii_isspace(c))
		return FERRY_QMP_SPLIT_MORE;
	if (splitter->state == BARE && (opens || c == '\n')) {
		*again = opens;
		return finish(splitter, value, error);
	}
	if (splitter->value->len == FERRY_QMP_VALUE_MAX)
		return bad(splitter, c == '\n' ? BETWEEN : SKIP, error, "size limit exceeded");
	g_string_append_c(splitter->value, c);
	switch (splitter->state) {
	case STRING:
	case ESCAPE:
		return string(splitter, c, error);
	case INSIDE:
		return inside(splitter, c, value, error);
	default:
		if (opens)
			return open_bracket(splitter, c, error);
		splitter->state = BARE;
		return FERRY_QMP_SPLIT_MORE;
	}
}

FerryQmpSplit ferry_qmp_splitter_next(FerryQmpSplitter *splitter, JsonNode **value, GError **error)
{
	while (splitter->at < splitter->input->len) {
		gboolean again = FALSE;
		FerryQmpSplit split = take(splitter, splitter->input->str[splitter->at], &again,
					   value, error);

		splitter->at += !again;
		if (split != FERRY_QMP_SPLIT_MORE)
			return split;
	}
	return FERRY_QMP_SPLIT_MORE;
}
