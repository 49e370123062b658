/* SPDX-License-Identifier: BSD-2-Clause */
#include "settings-private.h"

#define EXCLUDES(a, b, reason)                                                                     \
	{                                                                                          \
		FERRY_CAPABILITY_##a, FALSE, FERRY_CAPABILITY_##b, FERRY_PARAMETER__N, 0, reason   \
	}
#define NEEDS(a, b, reason)                                                                        \
	{                                                                                          \
		FERRY_CAPABILITY_##a, TRUE, FERRY_CAPABILITY_##b, FERRY_PARAMETER__N, 0, reason    \
	}
#define ONLY_WITH(a, parameter, value, reason)                                                     \
	{                                                                                          \
		FERRY_CAPABILITY_##a, FALSE, FERRY_CAPABILITY__N, FERRY_PARAMETER_##parameter,     \
			value, reason                                                              \
	}

/* docs/qmp.md is made from it. */
static const FerrySettingRule rules[] = {
	NEEDS(POSTCOPY_RAM, RETURN_PATH,
	      "the destination asks on it for the pages that the guest waits for"),
	EXCLUDES(
		POSTCOPY_RAM, COMPRESS,
		"a page that the guest waits for must not stand behind others in a thread's queue"),
	EXCLUDES(POSTCOPY_RAM, MULTIFD,
		 "a switched guest gets its pages over connections of another kind"),
	EXCLUDES(POSTCOPY_RAM, MAPPED_RAM, "a file answers no request for a page"),
	EXCLUDES(POSTCOPY_RAM, X_IGNORE_SHARED,
		 "a guest must not run on memory that its source still writes"),
	NEEDS(MULTIFD, RETURN_PATH, "the destination says on it that it took the connections"),
	EXCLUDES(MULTIFD, XBZRLE,
		 "its connections overtake each other, and a difference needs the page before it"),
	EXCLUDES(MULTIFD, COMPRESS, "it compresses by itself: use multifd-compression"),
	NEEDS(ZERO_COPY_SEND, MULTIFD, "only its connections send so"),
	EXCLUDES(ZERO_COPY_SEND, MAPPED_RAM, "a file is no connection: use direct-io"),
	ONLY_WITH(ZERO_COPY_SEND, MULTIFD_COMPRESSION, FERRY_MULTIFD_COMPRESSION_NONE,
		  "what is compressed is a copy"),
	EXCLUDES(MAPPED_RAM, XBZRLE, "a page has one place, and must be whole there"),
	EXCLUDES(MAPPED_RAM, COMPRESS, "a page has one place, of one size"),
	ONLY_WITH(MAPPED_RAM, MULTIFD_COMPRESSION, FERRY_MULTIFD_COMPRESSION_NONE,
		  "a page has one place, of one size"),
	EXCLUDES(DIRTY_LIMIT, AUTO_CONVERGE, "both would throttle the same vCPUs"),
};

const FerrySettingRule *ferry_setting_rules(guint *n)
{
	*n = G_N_ELEMENTS(rules);
	return rules;
}

static gboolean is_broken(const FerrySettingRule *rule, const gboolean *capability,
			  const guint64 *parameter)
{
	if (!capability[rule->capability])
		return FALSE;
	if (rule->parameter != FERRY_PARAMETER__N)
		return parameter[rule->parameter] != rule->value;
	return capability[rule->other] != rule->needs;
}

static void tell(const FerrySettingRule *rule, GError **error)
{
	const char *name = ferry_capability_info(rule->capability)->name;

	if (rule->parameter != FERRY_PARAMETER__N) {
		const FerrySettingInfo *info = ferry_parameter_info(rule->parameter);

		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "capability '%s' needs parameter '%s' to be '%s': %s", name, info->name,
			    info->choices[rule->value], rule->reason);
		return;
	}
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID, "capability '%s' %s '%s': %s", name,
		    rule->needs ? "needs" : "cannot be combined with",
		    ferry_capability_info(rule->other)->name, rule->reason);
}

gboolean ferry_settings_combine(const gboolean *capability, const guint64 *parameter,
				GError **error)
{
	const guint64 initial = parameter[FERRY_PARAMETER_CPU_THROTTLE_INITIAL];
	const guint64 most = parameter[FERRY_PARAMETER_MAX_CPU_THROTTLE];

	for (guint i = 0; i < G_N_ELEMENTS(rules); i++) {
		if (is_broken(&rules[i], capability, parameter)) {
			tell(&rules[i], error);
			return FALSE;
		}
	}
	if (initial <= most)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "parameter 'max-cpu-throttle' of %" G_GUINT64_FORMAT
		    " is below 'cpu-throttle-initial' of %" G_GUINT64_FORMAT,
		    most, initial);
	return FALSE;
}
