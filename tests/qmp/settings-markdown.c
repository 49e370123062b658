/* SPDX-License-Identifier: BSD-2-Clause */
/* Prints the tables of settings as docs/qmp.md has them. */
#include <ferry/settings.h>
#include <stdio.h>

static void print_name(const FerrySettingInfo *info)
{
	printf("| `%s`", info->name);
	if (info->older_name)
		printf(", also `%s`", info->older_name);
	printf(" | %s | ", info->help);
}

static void print_initial(const FerrySettingInfo *info)
{
	if (info->kind == FERRY_SETTING_BOOLEAN)
		printf(info->initial ? "on" : "off");
	else if (info->kind == FERRY_SETTING_CHOICE)
		printf("`%s`", info->choices[info->initial]);
	else if (info->kind == FERRY_SETTING_INTEGER)
		printf("%" G_GUINT64_FORMAT, info->initial);
}

static void print_range(const FerrySettingInfo *info)
{
	if (info->kind == FERRY_SETTING_BOOLEAN)
		printf("on, off");
	else if (info->kind == FERRY_SETTING_RESERVED)
		printf("empty");
	else if (info->kind == FERRY_SETTING_TEXT)
		printf("a text");
	else if (info->kind == FERRY_SETTING_CHOICE)
		for (guint i = 0; info->choices[i]; i++)
			printf("%s`%s`", i ? ", " : "", info->choices[i]);
	else if (info->power_of_two)
		printf("%" G_GUINT64_FORMAT " and more, powers of two", info->minimum);
	else if (info->maximum >= G_MAXINT64)
		printf("%" G_GUINT64_FORMAT " and more", info->minimum);
	else
		printf("%" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, info->minimum, info->maximum);
}

static void print_capabilities(void)
{
	puts("| capability | | at first |\n|---|---|---|");
	for (guint i = 0; i < FERRY_CAPABILITY__N; i++) {
		print_name(ferry_capability_info(i));
		print_initial(ferry_capability_info(i));
		puts(" |");
	}
}

static void print_parameters(void)
{
	puts("| parameter | | unit | at first | may be | a change acts |\n|---|---|---|---|---|---|");
	for (guint i = 0; i < FERRY_PARAMETER__N; i++) {
		const FerrySettingInfo *info = ferry_parameter_info(i);

		print_name(info);
		printf("%s | ", info->unit ? info->unit : "");
		print_initial(info);
		printf(" | ");
		print_range(info);
		printf(" | %s |\n", info->acts ? info->acts
				    : info->kind == FERRY_SETTING_RESERVED
					    ? ""
					    : "on the next migration");
	}
}

static void print_rules(void)
{
	guint n;
	const FerrySettingRule *rules = ferry_setting_rules(&n);

	puts("| capability | | since |\n|---|---|---|");
	for (guint i = 0; i < n; i++) {
		const FerrySettingRule *rule = &rules[i];

		printf("| `%s` | ", ferry_capability_info(rule->capability)->name);
		if (rule->parameter != FERRY_PARAMETER__N)
			printf("needs `%s` to be `%s`", ferry_parameter_info(rule->parameter)->name,
			       ferry_parameter_info(rule->parameter)->choices[rule->value]);
		else
			printf("%s `%s`", rule->needs ? "needs" : "not with",
			       ferry_capability_info(rule->other)->name);
		printf(" | %s |\n", rule->reason);
	}
}

int main(void)
{
	print_capabilities();
	puts("");
	print_parameters();
	puts("");
	print_rules();
	return 0;
}
