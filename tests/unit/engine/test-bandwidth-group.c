/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/bandwidth-group.h"

#include <ferry/error.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MB 1000000ull
#define SECOND G_USEC_PER_SEC

/* ---- a place for files ---- */

typedef struct {
	char *folder;
	char *path;
} Place;

static Place place_new(void)
{
	char *folder = g_dir_make_tmp("ferry-group-XXXXXX", NULL);

	return (Place){ folder, g_build_filename(folder, "group", NULL) };
}

static void place_clear(Place *place)
{
	g_unlink(place->path);
	/* It is empty: nothing was left behind. */
	CU_ASSERT_EQUAL(g_rmdir(place->folder), 0);
	g_free(place->path);
	g_free(place->folder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_clear)

/* ---- the arithmetic ---- */

static void share__nobody_wants_less__is_equal(void)
{
	const guint64 demands[] = { 0, 0, 500 * MB, 0 };

	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(400 * MB, demands, 1), 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(400 * MB, demands, 4), 100 * MB);
}

static void share__one_wants_less__the_rest_is_the_others(void)
{
	const guint64 small[] = { 10 * MB, 0, 0, 0 }, large[] = { 0, 10 * MB, 0, 0 };
	/* 10, then 45 of 90 each: the third wants 40 of them. */
	const guint64 stairs[] = { 0, 10 * MB, 40 * MB };

	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(400 * MB, small, 4), 10 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(400 * MB, large, 4), 130 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(100 * MB, stairs, 3), 50 * MB);
}

static void share__all_want_little__each_gets_it(void)
{
	const guint64 demands[] = { 3 * MB, 2 * MB, 1 * MB };

	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(400 * MB, demands, 3), 3 * MB);
}

static void share__absurd_numbers__neither_nothing_nor_more_than_there_is(void)
{
	const guint64 demands[] = { G_MAXUINT64, G_MAXUINT64, 1, G_MAXUINT64 };

	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(1, demands, 4), 1);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(G_MAXUINT64, demands, 4),
			(G_MAXUINT64 - 1) / 3);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_share(10 * MB + 1, demands, 3), 5 * MB);
}

/* Whatever the demands, the sum is the budget, or what is wanted where that is less. */
static void share__any_demands__sum_is_the_budget(void)
{
	for (guint round = 0; round < 300; round++) {
		guint64 demands[16], wanted = 0, sum = 0, budget = g_random_int_range(1, 1 << 30);
		guint n = g_random_int_range(1, 17);

		for (guint i = 0; i < n; i++)
			wanted += demands[i] = g_random_int_range(1, 1 << 27);
		for (guint i = 0; i < n; i++) {
			guint64 others[16], first = demands[i];

			memcpy(others, demands, sizeof(others));
			others[i] = others[0];
			others[0] = first;
			sum += ferry_bandwidth_group_share(budget, others, n);
		}
		/* A byte each may be lost to rounding. */
		CU_ASSERT(sum <= MAX(MIN(budget, wanted), n));
		CU_ASSERT(sum + n >= MIN(budget, wanted));
	}
}

/* ---- members ---- */

static void group__alone__gets_all_or_its_own(void)
{
	g_auto(Place) place = place_new();
	g_autoptr(FerryBandwidthGroup) one = ferry_bandwidth_group_join(place.path, NULL);
	GStatBuf status;

	CU_ASSERT_PTR_NOT_NULL(one);
	if (!one)
		return;
	CU_ASSERT_EQUAL(g_stat(place.path, &status), 0);
	CU_ASSERT_EQUAL(status.st_mode & 0777, 0600);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_members(one), 0);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 400 * MB), 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_members(one), 1);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 100 * MB, 400 * MB), 100 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 100 * MB, 0), 100 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 0), 0);
}

static void group__joined_and_left__shares_follow_within_50_ms(void)
{
	g_auto(Place) place = place_new();
	g_autoptr(FerryBandwidthGroup) one = ferry_bandwidth_group_join(place.path, NULL);
	g_autoptr(FerryBandwidthGroup) two = ferry_bandwidth_group_join(place.path, NULL);

	CU_ASSERT(one && two);
	if (!one || !two)
		return;
	/* Who joined and has not sent claims nothing. */
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 400 * MB), 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(two, SECOND, 0, 400 * MB), 200 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND + 49000, 0, 400 * MB), 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND + 50000, 0, 400 * MB), 200 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_members(one), 2);
	g_clear_pointer(&two, ferry_bandwidth_group_leave);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND + 100000, 0, 400 * MB), 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_members(one), 1);
}

static void group__own_limit_below_its_part__others_have_the_rest(void)
{
	g_auto(Place) place = place_new();
	g_autoptr(FerryBandwidthGroup) one = ferry_bandwidth_group_join(place.path, NULL);
	g_autoptr(FerryBandwidthGroup) two = ferry_bandwidth_group_join(place.path, NULL);

	CU_ASSERT(one && two);
	if (!one || !two)
		return;
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(two, SECOND, 50 * MB, 400 * MB), 50 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 400 * MB), 350 * MB);
}

static void budget__named_differently__the_smallest_holds_and_leaves_with_its_member(void)
{
	g_auto(Place) place = place_new();
	g_autoptr(FerryBandwidthGroup) one = ferry_bandwidth_group_join(place.path, NULL);
	g_autoptr(FerryBandwidthGroup) two = ferry_bandwidth_group_join(place.path, NULL);

	CU_ASSERT(one && two);
	if (!one || !two)
		return;
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(two, SECOND, 0, 100 * MB), 100 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 400 * MB), 50 * MB);
	/* A change acts at once. */
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 20 * MB), 10 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 0), 50 * MB);
	g_clear_pointer(&two, ferry_bandwidth_group_leave);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, 2 * SECOND, 0, 400 * MB), 400 * MB);
}

static void member__silent_for_half_a_second__is_not_counted_until_it_sends(void)
{
	g_auto(Place) place = place_new();
	g_autoptr(FerryBandwidthGroup) one = ferry_bandwidth_group_join(place.path, NULL);
	g_autoptr(FerryBandwidthGroup) two = ferry_bandwidth_group_join(place.path, NULL);

	CU_ASSERT(one && two);
	if (!one || !two)
		return;
	ferry_bandwidth_group_rate(two, SECOND, 0, 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 400 * MB), 200 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND + 499999, 0, 400 * MB), 200 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND + 550000, 0, 400 * MB), 400 * MB);
	ferry_bandwidth_group_rate(two, SECOND + 550000, 0, 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND + 600000, 0, 400 * MB), 200 * MB);
}

/* Joins in a process of its own, which sends; returns once it does. */
static pid_t member_of_its_own(const char *path)
{
	int ready[2];
	pid_t pid;
	char byte;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (pid == 0) {
		FerryBandwidthGroup *group = ferry_bandwidth_group_join(path, NULL);

		if (group) {
			ferry_bandwidth_group_rate(group, SECOND, 0, 400 * MB);
			if (write(ready[1], "", 1) == 1)
				pause();
		}
		_exit(1);
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &byte, 1) != 1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

static void member__killed__has_left_and_its_slot_is_free(void)
{
	g_auto(Place) place = place_new();
	g_autoptr(FerryBandwidthGroup) one = ferry_bandwidth_group_join(place.path, NULL);
	g_autoptr(FerryBandwidthGroup) next = NULL;
	pid_t pid = member_of_its_own(place.path);

	CU_ASSERT(one && pid > 0);
	if (!one || pid <= 0)
		return;
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 400 * MB), 200 * MB);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND + 50000, 0, 400 * MB), 400 * MB);
	/* Whoever takes its slot does not claim what it did. */
	next = ferry_bandwidth_group_join(place.path, NULL);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND + 100000, 0, 400 * MB), 400 * MB);
}

static gboolean is_refused(const char *path, gint code, const char *words)
{
	g_autoptr(GError) error = NULL;
	FerryBandwidthGroup *group = ferry_bandwidth_group_join(path, &error);
	gboolean right = !group && g_error_matches(error, FERRY_ERROR, code) &&
			 strstr(error->message, words) && strstr(error->message, path);

	if (!right)
		printf("# %s: expected '%s', and there is: %s\n", path, words,
		       error ? error->message : "no error");
	ferry_bandwidth_group_leave(group);
	return right;
}

static void group__full__is_refused_until_one_leaves(void)
{
	g_auto(Place) place = place_new();
	FerryBandwidthGroup *all[FERRY_BANDWIDTH_GROUP_MAX];

	for (guint i = 0; i < G_N_ELEMENTS(all); i++)
		CU_ASSERT_PTR_NOT_NULL(all[i] = ferry_bandwidth_group_join(place.path, NULL));
	CU_ASSERT(is_refused(place.path, FERRY_ERROR_STATE, "256 members"));
	ferry_bandwidth_group_leave(all[7]);
	CU_ASSERT_PTR_NOT_NULL(all[7] = ferry_bandwidth_group_join(place.path, NULL));
	for (guint i = 0; i < G_N_ELEMENTS(all); i++)
		if (all[i])
			ferry_bandwidth_group_rate(all[i], SECOND, 0, 256 * MB);
	if (all[0])
		CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(all[0], 2 * SECOND, 0, 256 * MB), MB);
	for (guint i = 0; i < G_N_ELEMENTS(all); i++)
		ferry_bandwidth_group_leave(all[i]);
}

/* ---- hostile files ---- */

static void file__no_groups__refused_and_left_as_it_is(void)
{
	g_auto(Place) place = place_new();
	g_autofree char *zeros = g_malloc0(64 + 32 * FERRY_BANDWIDTH_GROUP_MAX);
	g_autofree char *text = NULL;
	gsize size;

	CU_ASSERT(g_file_set_contents(place.path, "important", -1, NULL));
	CU_ASSERT(is_refused(place.path, FERRY_ERROR_INVALID, "no file of a group"));
	CU_ASSERT(g_file_get_contents(place.path, &text, &size, NULL) && size == 9);
	CU_ASSERT(g_file_set_contents(place.path, "", 0, NULL));
	CU_ASSERT(is_refused(place.path, FERRY_ERROR_INVALID, "no file of a group"));
	CU_ASSERT(
		g_file_set_contents(place.path, zeros, 64 + 32 * FERRY_BANDWIDTH_GROUP_MAX, NULL));
	CU_ASSERT(is_refused(place.path, FERRY_ERROR_INVALID, "no file of a group"));
}

static void file__link_fifo_folder_or_nowhere__refused(void)
{
	g_auto(Place) place = place_new();
	g_autofree char *other = g_build_filename(place.folder, "other", NULL);
	g_autofree char *nowhere = g_build_filename(place.folder, "no", "where", NULL);

	CU_ASSERT_EQUAL(symlink(other, place.path), 0);
	CU_ASSERT(is_refused(place.path, FERRY_ERROR_IO, "symbolic link"));
	CU_ASSERT_FALSE(g_file_test(other, G_FILE_TEST_EXISTS));
	g_unlink(place.path);
	CU_ASSERT_EQUAL(mkfifo(place.path, 0600), 0);
	CU_ASSERT(is_refused(place.path, FERRY_ERROR_INVALID, "no file of a group"));
	CU_ASSERT(is_refused(place.folder, FERRY_ERROR_IO, "directory"));
	CU_ASSERT(is_refused(nowhere, FERRY_ERROR_IO, "No such file"));
	CU_ASSERT(is_refused("group", FERRY_ERROR_INVALID, "absolute"));
}

/* Changes @size bytes of the group's file at @offset. */
static void overwrite(const char *path, gsize offset, const void *bytes, gsize size)
{
	FILE *file = fopen(path, "r+");

	CU_ASSERT_PTR_NOT_NULL(file);
	if (!file)
		return;
	CU_ASSERT(fseek(file, (long)offset, SEEK_SET) == 0 && fwrite(bytes, size, 1, file) == 1);
	fclose(file);
}

static void file__of_another_version__refused(void)
{
	g_auto(Place) place = place_new();
	guint32 version = 2;

	ferry_bandwidth_group_leave(ferry_bandwidth_group_join(place.path, NULL));
	overwrite(place.path, 8, &version, sizeof(version));
	CU_ASSERT(is_refused(place.path, FERRY_ERROR_INVALID, "of this release"));
}

static void file__claims_that_nobody_holds__count_for_nothing(void)
{
	g_auto(Place) place = place_new();
	g_autoptr(FerryBandwidthGroup) one = ferry_bandwidth_group_join(place.path, NULL);
	g_autofree guint8 *bytes = g_malloc(32 * (FERRY_BANDWIDTH_GROUP_MAX - 1));

	if (!one)
		return;
	memset(bytes, 0xff, 32 * (FERRY_BANDWIDTH_GROUP_MAX - 1));
	overwrite(place.path, 64 + 32, bytes, 32 * (FERRY_BANDWIDTH_GROUP_MAX - 1));
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 400 * MB), 400 * MB);
}

static void file__cut_short__members_find_each_other_again(void)
{
	g_auto(Place) place = place_new();
	g_autoptr(FerryBandwidthGroup) one = ferry_bandwidth_group_join(place.path, NULL);
	g_autoptr(FerryBandwidthGroup) two = ferry_bandwidth_group_join(place.path, NULL);

	CU_ASSERT(one && two);
	if (!one || !two)
		return;
	ferry_bandwidth_group_rate(two, SECOND, 0, 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, SECOND, 0, 400 * MB), 200 * MB);
	CU_ASSERT_EQUAL(truncate(place.path, 0), 0);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, 2 * SECOND, 0, 400 * MB), 400 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(two, 2 * SECOND, 0, 400 * MB), 200 * MB);
	CU_ASSERT_EQUAL(ferry_bandwidth_group_rate(one, 3 * SECOND, 0, 400 * MB), 200 * MB);
}

static CU_TestInfo cases[] = {
	CASE(share__nobody_wants_less__is_equal),
	CASE(share__one_wants_less__the_rest_is_the_others),
	CASE(share__all_want_little__each_gets_it),
	CASE(share__absurd_numbers__neither_nothing_nor_more_than_there_is),
	CASE(share__any_demands__sum_is_the_budget),
	CASE(group__alone__gets_all_or_its_own),
	CASE(group__joined_and_left__shares_follow_within_50_ms),
	CASE(group__own_limit_below_its_part__others_have_the_rest),
	CASE(budget__named_differently__the_smallest_holds_and_leaves_with_its_member),
	CASE(member__silent_for_half_a_second__is_not_counted_until_it_sends),
	CASE(member__killed__has_left_and_its_slot_is_free),
	CASE(group__full__is_refused_until_one_leaves),
	CASE(file__no_groups__refused_and_left_as_it_is),
	CASE(file__link_fifo_folder_or_nowhere__refused),
	CASE(file__of_another_version__refused),
	CASE(file__claims_that_nobody_holds__count_for_nothing),
	CASE(file__cut_short__members_find_each_other_again),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "bandwidth-group", cases);
}
