/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/settings-private.h"

#include <string.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerrySettings, ferry_settings_free)

/* ---- the tables ---- */

static void check_info(const FerrySettingInfo *info)
{
	CU_ASSERT(info->name && *info->name && info->help && *info->help);
	CU_ASSERT(info->minimum <= info->initial && info->initial <= info->maximum);
	/* A number of QMP has to hold it. */
	CU_ASSERT(info->maximum <= G_MAXINT64);
	CU_ASSERT(!info->power_of_two || (info->initial & (info->initial - 1)) == 0);
	CU_ASSERT_EQUAL(info->kind == FERRY_SETTING_CHOICE, info->choices != NULL);
	if (info->kind == FERRY_SETTING_BOOLEAN)
		CU_ASSERT(info->minimum == 0 && info->maximum == 1);
	if (info->kind == FERRY_SETTING_CHOICE)
		CU_ASSERT_EQUAL(g_strv_length((char **)info->choices), info->maximum + 1);
	if (info->kind == FERRY_SETTING_RESERVED || info->kind == FERRY_SETTING_TEXT)
		CU_ASSERT_EQUAL(info->maximum, 0);
}

static void tables__every_row__is_consistent(void)
{
	for (guint c = 0; c < FERRY_CAPABILITY__N; c++) {
		check_info(ferry_capability_info(c));
		CU_ASSERT_EQUAL(ferry_capability_info(c)->kind, FERRY_SETTING_BOOLEAN);
		CU_ASSERT_PTR_NULL(ferry_capability_info(c)->acts);
	}
	for (guint p = 0; p < FERRY_PARAMETER__N; p++)
		check_info(ferry_parameter_info(p));
}

/* One setting to a name, older names too, capabilities and parameters together: --set has both. */
static void names__of_all__are_found_and_unique(void)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

	for (guint i = 0; i < FERRY_CAPABILITY__N + FERRY_PARAMETER__N; i++) {
		gboolean parameter = i >= FERRY_CAPABILITY__N;
		guint row = parameter ? i - FERRY_CAPABILITY__N : i;
		const FerrySettingInfo *info = parameter ? ferry_parameter_info(row)
							 : ferry_capability_info(row);
		const char *names[] = { info->name, info->older_name };

		for (guint k = 0; k < G_N_ELEMENTS(names); k++) {
			if (!names[k])
				continue;
			CU_ASSERT(g_hash_table_add(seen, (gpointer)names[k]));
			CU_ASSERT_EQUAL(ferry_capability_from_name(names[k]),
					parameter ? -1 : (int)row);
			CU_ASSERT_EQUAL(ferry_parameter_from_name(names[k]),
					parameter ? (int)row : -1);
		}
	}
	CU_ASSERT_EQUAL(ferry_capability_from_name(""), -1);
	CU_ASSERT_EQUAL(ferry_parameter_from_name("Max-bandwidth"), -1);
}

static void rules__every_row__names_what_there_is_and_why(void)
{
	guint n;
	const FerrySettingRule *rules = ferry_setting_rules(&n);

	CU_ASSERT(n > 0);
	for (guint i = 0; i < n; i++) {
		const FerrySettingRule *rule = &rules[i];

		CU_ASSERT(rule->capability < FERRY_CAPABILITY__N && *rule->reason);
		CU_ASSERT(rule->reason[strlen(rule->reason) - 1] != '.');
		CU_ASSERT(rule->parameter == FERRY_PARAMETER__N
				  ? rule->other < FERRY_CAPABILITY__N &&
					    rule->other != rule->capability
				  : ferry_parameter_info(rule->parameter)->kind ==
					    FERRY_SETTING_CHOICE);
	}
}

/* ---- changes ---- */

static void settings__new__are_what_the_tables_say(void)
{
	g_autoptr(FerrySettings) settings = ferry_settings_new();
	const FerrySettingsChange nothing = { 0 };

	for (guint c = 0; c < FERRY_CAPABILITY__N; c++)
		CU_ASSERT_EQUAL((guint64)ferry_settings_get_capability(settings, c),
				ferry_capability_info(c)->initial);
	for (guint p = 0; p < FERRY_PARAMETER__N; p++)
		CU_ASSERT_EQUAL(ferry_settings_get_parameter(settings, p),
				ferry_parameter_info(p)->initial);
	/* They can be together. */
	CU_ASSERT(ferry_settings_change(settings, &nothing, NULL));
}

static gboolean is_invalid(gboolean ok, GError *error, const char *words)
{
	gboolean right = !ok && g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID) &&
			 strstr(error->message, words);

	if (!right)
		printf("# expected '%s', and there is: %s\n", words,
		       error ? error->message : "no error");
	g_clear_error(&error);
	return right;
}

static void parameter__each_edge__taken_and_one_beyond_refused(void)
{
	g_autoptr(FerrySettings) settings = ferry_settings_new();

	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_CPU_THROTTLE_INITIAL, 1,
					       NULL));
	for (guint p = 0; p < FERRY_PARAMETER__N; p++) {
		const FerrySettingInfo *info = ferry_parameter_info(p);
		const guint64 beyond[] = { info->minimum - 1, info->maximum + 1, G_MAXUINT64 };

		CU_ASSERT(ferry_settings_set_parameter(settings, p, info->maximum, NULL));
		CU_ASSERT(ferry_settings_set_parameter(settings, p, info->minimum, NULL));
		for (guint i = 0; i < G_N_ELEMENTS(beyond); i++) {
			GError *error = NULL;
			gboolean ok = ferry_settings_set_parameter(settings, p, beyond[i], &error);

			CU_ASSERT(is_invalid(ok, error, info->name));
			CU_ASSERT_EQUAL(ferry_settings_get_parameter(settings, p), info->minimum);
		}
	}
}

static void parameter__no_power_of_two__refused(void)
{
	g_autoptr(FerrySettings) settings = ferry_settings_new();
	GError *error = NULL;
	gboolean ok = ferry_settings_set_parameter(settings, FERRY_PARAMETER_XBZRLE_CACHE_SIZE,
						   12288, &error);

	CU_ASSERT(is_invalid(ok, error, "a power of two, not 12288"));
	CU_ASSERT_EQUAL(ferry_settings_get_parameter(settings, FERRY_PARAMETER_XBZRLE_CACHE_SIZE),
			64 << 20);
}

static void text__set_and_too_long__taken_and_refused(void)
{
	g_autoptr(FerrySettings) settings = ferry_settings_new();
	g_autofree char *most = g_strnfill(FERRY_SETTING_TEXT_MAX, 'x');
	g_autofree char *more = g_strnfill(FERRY_SETTING_TEXT_MAX + 1, 'x');
	const char *const wrong[] = { more, "\xff" };
	g_autofree char *first = ferry_settings_dup_text(settings, FERRY_PARAMETER_BANDWIDTH_GROUP);
	g_autofree char *kept = NULL, *last = NULL;

	CU_ASSERT_STRING_EQUAL(first, "");
	CU_ASSERT(ferry_settings_set_text(settings, FERRY_PARAMETER_BANDWIDTH_GROUP, most, NULL));
	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		GError *error = NULL;
		gboolean ok = ferry_settings_set_text(settings, FERRY_PARAMETER_BANDWIDTH_GROUP,
						      wrong[i], &error);

		CU_ASSERT(is_invalid(ok, error, "4095 bytes of UTF-8"));
	}
	kept = ferry_settings_dup_text(settings, FERRY_PARAMETER_BANDWIDTH_GROUP);
	CU_ASSERT_STRING_EQUAL(kept, most);
	CU_ASSERT(ferry_settings_set_text(settings, FERRY_PARAMETER_BANDWIDTH_GROUP, NULL, NULL));
	last = ferry_settings_dup_text(settings, FERRY_PARAMETER_BANDWIDTH_GROUP);
	CU_ASSERT_STRING_EQUAL(last, "");
}

static void change__last_part_wrong__changes_nothing(void)
{
	g_autoptr(FerrySettings) settings = ferry_settings_new();
	FerrySettingsChange change = { 0 };
	GError *error = NULL;
	gboolean ok;

	change.set_capability[FERRY_CAPABILITY_XBZRLE] = TRUE;
	change.capability[FERRY_CAPABILITY_XBZRLE] = TRUE;
	change.set_parameter[FERRY_PARAMETER_DOWNTIME_LIMIT] = TRUE;
	change.parameter[FERRY_PARAMETER_DOWNTIME_LIMIT] = 5;
	change.set_parameter[FERRY_PARAMETER_ANNOUNCE_STEP] = TRUE;
	change.parameter[FERRY_PARAMETER_ANNOUNCE_STEP] = 10001;
	ok = ferry_settings_change(settings, &change, &error);
	CU_ASSERT(is_invalid(ok, error, "'announce-step' expects a number from 0 to 10000"));
	CU_ASSERT_FALSE(ferry_settings_get_capability(settings, FERRY_CAPABILITY_XBZRLE));
	CU_ASSERT_EQUAL(ferry_settings_get_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT),
			300);
	change.parameter[FERRY_PARAMETER_ANNOUNCE_STEP] = 10000;
	CU_ASSERT(ferry_settings_change(settings, &change, NULL));
	CU_ASSERT(ferry_settings_get_capability(settings, FERRY_CAPABILITY_XBZRLE));
	CU_ASSERT_EQUAL(ferry_settings_get_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT), 5);
}

static void change__from_one_legal_state_to_another__judged_as_a_whole(void)
{
	g_autoptr(FerrySettings) settings = ferry_settings_new();
	FerrySettingsChange change = { 0 };

	CU_ASSERT(ferry_settings_set_capability(settings, FERRY_CAPABILITY_XBZRLE, TRUE, NULL));
	CU_ASSERT_FALSE(
		ferry_settings_set_capability(settings, FERRY_CAPABILITY_MULTIFD, TRUE, NULL));
	change.set_capability[FERRY_CAPABILITY_XBZRLE] = TRUE;
	change.set_capability[FERRY_CAPABILITY_MULTIFD] = TRUE;
	change.capability[FERRY_CAPABILITY_MULTIFD] = 4; /* any TRUE */
	CU_ASSERT(ferry_settings_change(settings, &change, NULL));
	CU_ASSERT_FALSE(ferry_settings_get_capability(settings, FERRY_CAPABILITY_XBZRLE));
	CU_ASSERT_EQUAL(ferry_settings_get_capability(settings, FERRY_CAPABILITY_MULTIFD), TRUE);
}

static void rules__each__broken_is_refused_with_its_reason(void)
{
	guint n;
	const FerrySettingRule *rules = ferry_setting_rules(&n);

	for (guint i = 0; i < n; i++) {
		gboolean capability[FERRY_CAPABILITY__N] = { 0 };
		guint64 parameter[FERRY_PARAMETER__N] = { 0 };
		const FerrySettingRule *rule = &rules[i];
		GError *error = NULL;
		gboolean ok;

		capability[rule->capability] = TRUE;
		/* What it needs is there, and what that needs: the latter's rules are above. */
		for (guint k = n; k--;)
			if (k != i && capability[rules[k].capability] && rules[k].needs)
				capability[rules[k].other] = TRUE;
		if (rule->parameter != FERRY_PARAMETER__N)
			parameter[rule->parameter] = rule->value + 1;
		else
			capability[rule->other] = !rule->needs;
		ok = ferry_settings_combine(capability, parameter, &error);
		CU_ASSERT(is_invalid(ok, error, rule->reason));
	}
}

static void settings__frozen__capabilities_stay_and_parameters_change(void)
{
	g_autoptr(FerrySettings) settings = ferry_settings_new();
	g_autoptr(GError) error = NULL;

	ferry_settings_freeze(settings, TRUE);
	/* Even to what it is. */
	CU_ASSERT_FALSE(
		ferry_settings_set_capability(settings, FERRY_CAPABILITY_EVENTS, TRUE, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_MAX_BANDWIDTH, 1, NULL));
	ferry_settings_freeze(settings, FALSE);
	CU_ASSERT(ferry_settings_set_capability(settings, FERRY_CAPABILITY_EVENTS, FALSE, NULL));
}

static CU_TestInfo cases[] = {
	CASE(tables__every_row__is_consistent),
	CASE(names__of_all__are_found_and_unique),
	CASE(rules__every_row__names_what_there_is_and_why),
	CASE(settings__new__are_what_the_tables_say),
	CASE(parameter__each_edge__taken_and_one_beyond_refused),
	CASE(parameter__no_power_of_two__refused),
	CASE(text__set_and_too_long__taken_and_refused),
	CASE(change__last_part_wrong__changes_nothing),
	CASE(change__from_one_legal_state_to_another__judged_as_a_whole),
	CASE(rules__each__broken_is_refused_with_its_reason),
	CASE(settings__frozen__capabilities_stay_and_parameters_change),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "settings", cases);
}
