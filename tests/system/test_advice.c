/* SPDX-License-Identifier: MIT */
/*
 * Advice: that the system hears it, that no byte changes but where that is the point, and that what
 * is not for shared memory is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "smaps.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

enum { PAGE = 4096, PAGES = 16, SIZE = PAGES * PAGE };

/* ---- What the kernel is told: before libc's, the rest of the program is hidden ---- */

static struct said {
	const void *data; /* of the last call */
	size_t length;
	off_t offset;
	int number;
} said;

static int refusal; /* errno of the next call */

__attribute__((visibility("default"))) int madvise(void *data, size_t length, int number)
{
	if (length > 0)
		said = (struct said){ .data = data, .length = length, .number = number };
	if (length > 0 && refusal != 0) {
		errno = refusal;
		refusal = 0;
		return -1;
	}
	return (int)syscall(SYS_madvise, data, length, number);
}

__attribute__((visibility("default"))) int posix_fadvise(int fd, off_t offset, off_t length,
							 int number)
{
	said = (struct said){ .offset = offset, .length = (size_t)length, .number = number };
	return syscall(SYS_fadvise64, fd, offset, length, number) < 0 ? errno : 0;
}

static struct shmb_error last(struct shmb_region *region)
{
	struct shmb_error error = { .struct_size = sizeof(error) };

	CHECK_OK(shmb_region_last_error(region, &error));
	return error;
}

static struct shmb_region *create_filled(struct shmb_client *client, unsigned flags)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;

	options.flags = flags;
	region = create(client, "r", SIZE, &options);
	memset(shmb_region_data(region), 0x5a, SIZE);
	return region;
}

static bool is_all(const unsigned char *data, size_t length, unsigned char value)
{
	for (size_t i = 0; i < length; i++)
		if (data[i] != value)
			return false;
	return true;
}

/* An advice on the whole region; ENOTSUP where the system says that it has it not. */
static void advise_all(struct shmb_region *region, enum shmb_advice advice, int expected)
{
	int result = shmb_region_advise(region, 0, 0, advice);

	if (!shmb_supports_advice(advice))
		expected = SHMB_ENOTSUP;
	if (result != expected)
		FAIL("advice %d: %s", advice, shmb_error_name(result));
}

CASE(F35_no_advice_but_remove_changes_a_byte, PRIVATE)
{
	static const enum shmb_advice harmless[] = {
		SHMB_ADVICE_NORMAL,   SHMB_ADVICE_RANDOM,      SHMB_ADVICE_SEQUENTIAL,
		SHMB_ADVICE_WILLNEED, SHMB_ADVICE_DONTNEED,    SHMB_ADVICE_PREFETCH,
		SHMB_ADVICE_DONTFORK, SHMB_ADVICE_DOFORK,      SHMB_ADVICE_MERGEABLE,
		SHMB_ADVICE_HUGEPAGE, SHMB_ADVICE_UNMERGEABLE, SHMB_ADVICE_NOHUGEPAGE,
		SHMB_ADVICE_DONTDUMP, SHMB_ADVICE_DODUMP,      SHMB_ADVICE_KEEPONFORK,
		SHMB_ADVICE_COLD,     SHMB_ADVICE_PAGEOUT,
	};
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client, 0);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	size_t i;

	for (i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		advise_all(region, harmless[i], 0);
		advise_all(reader, harmless[i], 0);
		CHECK(is_all(shmb_region_data(region), SIZE, 0x5a));
	}
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F35_what_is_not_for_shared_memory_is_refused, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client, 0);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *ours;

	options.flags = SHMB_PRIVATE;
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ | SHMB_WRITE, &options, &ours));
	advise_all(region, SHMB_ADVICE_WIPEONFORK, SHMB_EINVAL);
	advise_all(ours, SHMB_ADVICE_WIPEONFORK, SHMB_EINVAL);
	advise_all(region, SHMB_ADVICE_FREE, SHMB_EINVAL);
	advise_all(ours, SHMB_ADVICE_FREE, SHMB_EINVAL);
	CHECK_CODE(shmb_region_advise(region, 0, 0, (enum shmb_advice)21), SHMB_EINVAL);
	CHECK_STRING(last(region).what, "advice");
	CHECK_CODE(shmb_region_advise(region, 0, 0, (enum shmb_advice) - 1), SHMB_EINVAL);
	CHECK_INT(shmb_supports_advice((enum shmb_advice)21), 0);
	CHECK_CODE(shmb_region_advise(region, 1, SIZE, SHMB_ADVICE_NORMAL), SHMB_EBOUNDS);
	CHECK_CODE(shmb_region_advise(region, SIZE + 1, 0, SHMB_ADVICE_NORMAL), SHMB_EBOUNDS);
	CHECK_OK(shmb_region_advise(region, SIZE, 0, SHMB_ADVICE_NORMAL)); /* of nothing */
	CHECK(is_all(shmb_region_data(region), SIZE, 0x5a));
	CHECK_OK(shmb_region_close(ours));
	CHECK_CODE(shmb_region_advise(ours, 0, 0, SHMB_ADVICE_NORMAL), SHMB_ECLOSED);
	shmb_region_free(ours);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* What the kernel notes of a mapping. */
static void check_noted(struct shmb_region *region, enum shmb_advice advice, const char *flag,
			bool set)
{
	unsigned char *data = shmb_region_data(region);
	int result = shmb_region_advise(region, 2 * PAGE + 1, PAGE, advice); /* two pages */

	if (!shmb_supports_advice(advice)) {
		CHECK_CODE(result, SHMB_ENOTSUP);
		return;
	}
	CHECK_OK(result);
	if (smaps_flag(data + 2 * PAGE, 2 * PAGE, flag) != set)
		FAIL("advice %d: flag %s is not %d", advice, flag, set);
	if (set && (smaps_flag(data, 2 * PAGE, flag) || smaps_flag(data + 4 * PAGE, PAGE, flag)))
		FAIL("advice %d: also for other pages", advice);
}

CASE(F35_the_kernel_notes_it_of_the_range_alone, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client, SHMB_DUMP), *ours;
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	check_noted(region, SHMB_ADVICE_RANDOM, "rr", true);
	check_noted(region, SHMB_ADVICE_NORMAL, "rr", false);
	check_noted(region, SHMB_ADVICE_SEQUENTIAL, "sr", true);
	check_noted(region, SHMB_ADVICE_NORMAL, "sr", false);
	check_noted(region, SHMB_ADVICE_DONTFORK, "dc", true);
	check_noted(region, SHMB_ADVICE_DOFORK, "dc", false);
	check_noted(region, SHMB_ADVICE_DONTDUMP, "dd", true);
	check_noted(region, SHMB_ADVICE_DODUMP, "dd", false);
	check_noted(region, SHMB_ADVICE_HUGEPAGE, "hg", true);
	check_noted(region, SHMB_ADVICE_NOHUGEPAGE, "hg", false);
	check_noted(region, SHMB_ADVICE_NOHUGEPAGE, "nh", true);
	options.flags = SHMB_PRIVATE;
	CHECK_OK(shmb_region_open(client, "r", SHMB_READ | SHMB_WRITE, &options, &ours));
	check_noted(ours, SHMB_ADVICE_MERGEABLE, "mg", true);
	check_noted(ours, SHMB_ADVICE_UNMERGEABLE, "mg", false);
	shmb_region_free(ours);
	shmb_region_free(region);
	shmb_client_free(client);
}

struct words {
	enum shmb_advice advice;
	int number;
};

/* Whatever it makes of it. */
CASE(F35_the_kernel_is_told_in_its_own_words, PRIVATE)
{
	static const struct words words[] = {
		{ SHMB_ADVICE_NORMAL, MADV_NORMAL },
		{ SHMB_ADVICE_RANDOM, MADV_RANDOM },
		{ SHMB_ADVICE_SEQUENTIAL, MADV_SEQUENTIAL },
		{ SHMB_ADVICE_WILLNEED, MADV_WILLNEED },
		{ SHMB_ADVICE_DONTNEED, MADV_DONTNEED },
		{ SHMB_ADVICE_PREFETCH, MADV_WILLNEED },
		{ SHMB_ADVICE_FREE, MADV_FREE },
		{ SHMB_ADVICE_DONTFORK, MADV_DONTFORK },
		{ SHMB_ADVICE_DOFORK, MADV_DOFORK },
		{ SHMB_ADVICE_MERGEABLE, MADV_MERGEABLE },
		{ SHMB_ADVICE_UNMERGEABLE, MADV_UNMERGEABLE },
		{ SHMB_ADVICE_HUGEPAGE, MADV_HUGEPAGE },
		{ SHMB_ADVICE_NOHUGEPAGE, MADV_NOHUGEPAGE },
		{ SHMB_ADVICE_DONTDUMP, MADV_DONTDUMP },
		{ SHMB_ADVICE_DODUMP, MADV_DODUMP },
		{ SHMB_ADVICE_WIPEONFORK, MADV_WIPEONFORK },
		{ SHMB_ADVICE_KEEPONFORK, MADV_KEEPONFORK },
		{ SHMB_ADVICE_COLD, MADV_COLD },
		{ SHMB_ADVICE_PAGEOUT, MADV_PAGEOUT },
		{ SHMB_ADVICE_COLLAPSE, MADV_COLLAPSE },
	};
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client, 0);
	unsigned char *data = shmb_region_data(region);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!shmb_supports_advice(words[i].advice))
			continue;
		said = (struct said){ .number = -1 };
		(void)shmb_region_advise(region, PAGE + 1, PAGE, words[i].advice);
		CHECK_INT(said.number, words[i].number);
		CHECK(said.data == data + PAGE);
		CHECK_INT(said.length, 2 * PAGE);
	}
	CHECK(is_all(data, SIZE, 0x5a));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F35_what_the_kernel_says_is_told_in_our_words, PRIVATE)
{
	static const struct {
		int number, code;
	} words[] = { { EAGAIN, SHMB_EBUSY },
		      { EINVAL, SHMB_EINVAL },
		      { EOPNOTSUPP, SHMB_ENOTSUP },
		      { ENOMEM, SHMB_ENOMEM },
		      { EIO, SHMB_EIO } };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client, 0);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		refusal = words[i].number;
		CHECK_CODE(shmb_region_advise(region, 0, 0, SHMB_ADVICE_WILLNEED), words[i].code);
		CHECK_STRING(last(region).what, "willneed");
	}
	CHECK_OK(shmb_region_advise(region, 0, 0, SHMB_ADVICE_WILLNEED));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Is the page there in a child? */
static bool child_has(const void *page)
{
	unsigned char present;
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(mincore((void *)(uintptr_t)page, PAGE, &present) == 0 ? 1 : 0);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status) == 1;
}

CASE(F35_dontfork_keeps_it_from_children, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client, 0);
	unsigned char *data = shmb_region_data(region);

	if (!shmb_supports_advice(SHMB_ADVICE_DONTFORK)) {
		advise_all(region, SHMB_ADVICE_DONTFORK, 0);
	} else {
		CHECK(child_has(data + PAGE));
		CHECK_OK(shmb_region_advise(region, PAGE, PAGE, SHMB_ADVICE_DONTFORK));
		CHECK(!child_has(data + PAGE));
		CHECK(child_has(data));
		CHECK(child_has(data + 2 * PAGE));
		CHECK_OK(shmb_region_advise(region, 0, 0, SHMB_ADVICE_DOFORK));
		CHECK(child_has(data + PAGE));
	}
	shmb_region_free(region);
	shmb_client_free(client);
}

static void see_zeros(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "r", SHMB_READ);
	unsigned char *data = shmb_region_data(region);

	CHECK(is_all(data, PAGE - 3, 0x5a));
	CHECK(is_all(data + PAGE - 3, 3 * PAGE + 10, 0));
	CHECK(is_all(data + 4 * PAGE + 7, 12 * PAGE - 7, 0x5a));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(F35_remove_makes_zeros_for_everybody_of_exactly_the_range, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client, SHMB_KEEP_FD);
	struct shmb_region *reader = open_region(client, "r", SHMB_READ);
	unsigned char *data = shmb_region_data(region);
	struct stat before, after;

	CHECK_CODE(shmb_region_advise(reader, 0, 0, SHMB_ADVICE_REMOVE), SHMB_EMODE);
	if (!shmb_supports_advice(SHMB_ADVICE_REMOVE)) {
		advise_all(region, SHMB_ADVICE_REMOVE, 0);
		CHECK(is_all(data, SIZE, 0x5a));
	} else {
		CHECK_OK(fstat(shmb_region_fd(region), &before));
		CHECK_OK(shmb_region_advise(region, PAGE - 3, 3 * PAGE + 10, SHMB_ADVICE_REMOVE));
		CHECK_OK(fstat(shmb_region_fd(region), &after));
		CHECK_INT((before.st_blocks - after.st_blocks) * 512, 3 * PAGE);
		actor_run(broker, &SELF, see_zeros, NULL);
		CHECK_OK(shmb_region_advise(region, 5 * PAGE + 1, 2, SHMB_ADVICE_REMOVE));
		CHECK(is_all(data + 5 * PAGE + 1, 2, 0));
		CHECK_INT(data[5 * PAGE], 0x5a);
		CHECK_INT(data[5 * PAGE + 3], 0x5a);
	}
	shmb_region_free(reader);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* The page table forgets them, the region does not. */
CASE(F35_dontneed_lets_go_of_pages_of_the_process, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create_filled(client, 0);
	unsigned char *data = shmb_region_data(region);

	CHECK_INT(smaps_bytes(data, SIZE, "Rss"), SIZE);
	CHECK_OK(shmb_region_advise(region, 0, 4 * PAGE, SHMB_ADVICE_DONTNEED));
	CHECK_INT(smaps_bytes(data, SIZE, "Rss"), SIZE - 4 * PAGE);
	CHECK_INT(resident(data, SIZE), PAGES);
	CHECK(is_all(data, SIZE, 0x5a));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* Of a file, whose pages are not in memory before. */
CASE(F35_prefetch_reads_a_file_ahead, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	const char *path = broker_path(broker, "file");
	struct shmb_region *region;
	unsigned char *data;
	int fd = SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));

	for (unsigned i = 0; i < PAGES; i++) {
		char page[PAGE];

		memset(page, (int)i + 1, sizeof(page));
		CHECK_INT(write(fd, page, sizeof(page)), PAGE);
	}
	CHECK_OK(fsync(fd));
	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	region = create(client, "r", 0, &options);
	data = shmb_region_data(region);
	CHECK_OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	if (resident(data, SIZE) > 0)
		SKIP("this file system keeps what it is told to drop");
	CHECK_OK(shmb_region_advise(region, 4 * PAGE, 4 * PAGE, SHMB_ADVICE_PREFETCH));
	CHECK(!said.data && said.number == POSIX_FADV_WILLNEED); /* of the file */
	CHECK_INT(said.offset, 4 * PAGE);
	CHECK_INT(said.length, 4 * PAGE);
	/* It is under way; reading waits for it. Nothing is mapped by it. */
	CHECK_INT(smaps_bytes(data, SIZE, "Rss"), 0);
	UNTIL(broker, resident(data + 4 * PAGE, 4 * PAGE) == 4);
	CHECK_INT(data[5 * PAGE], 6);
	close(fd);
	shmb_region_free(region);
	shmb_client_free(client);
}
