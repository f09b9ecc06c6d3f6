/* SPDX-License-Identifier: MIT */
/*
 * Who may do what: modes, owners, groups, and that "read" means read, whatever a client tries.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

static struct shmb_region_options persistent(uint32_t mode)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.lifetime = SHMB_PERSISTENT;
	options.mode = mode;
	return options;
}

/* ---- Modes ---- */

struct right {
	const char *name; /* owned by ALICE and the shared group */
	uint32_t mode;
};

static const struct right table[] = {
	{ "m/700", 0700 }, { "m/740", 0740 }, { "m/750", 0750 }, { "m/760", 0760 },
	{ "m/770", 0770 }, { "m/704", 0704 }, { "m/706", 0706 }, { "m/777", 0777 },
	{ "m/400", 0400 }, { "m/500", 0500 }, { "m/000", 0000 }, { "m/720", 0720 },
	{ "m/702", 0702 }, { "m/701", 0701 }, { "m/074", 0074 }, { "m/604", 0604 },
	{ "m/407", 0407 },
};
enum { TABLE = sizeof(table) / sizeof(table[0]) };

static void make_the_table(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	size_t i;

	for (i = 0; i < TABLE; i++) {
		struct shmb_region_options options = persistent(table[i].mode);

		shmb_region_free(create(client, table[i].name, 4096, &options));
		CHECK_OK(shmb_region_chown(client, table[i].name, (uint32_t)-1, SHARED_GROUP));
	}
	shmb_client_free(client);
}

/* What the mode means, said once more and independently of the daemon. */
static unsigned granted(uint32_t mode, unsigned digit)
{
	unsigned bits = (mode >> digit * 3) & 7;

	return bits & SHMB_WRITE ? bits | SHMB_LOCK : bits;
}

static void try_every_access(struct broker *broker, void *argument)
{
	static const unsigned wanted[] = { SHMB_READ, SHMB_READ | SHMB_LOCK, SHMB_READ | SHMB_WRITE,
					   SHMB_READ | SHMB_WRITE | SHMB_LOCK };
	unsigned digit = *(unsigned *)argument;
	struct shmb_client *client = connect_to(broker);
	size_t i, k;

	for (i = 0; i < TABLE; i++) {
		unsigned has = granted(table[i].mode, digit);
		struct shmb_region_info info = { .struct_size = sizeof(info) };
		bool visible = has || digit == 2;
		int r;

		CHECK_CODE(shmb_region_stat(client, table[i].name, &info),
			   visible ? 0 : SHMB_ENOENT);
		for (k = 0; k < 4; k++) {
			unsigned need = wanted[k] & SHMB_WRITE ? wanted[k] | SHMB_LOCK : wanted[k];
			struct shmb_region *region = NULL;
			int expected = !visible ? SHMB_ENOENT : need & ~has ? SHMB_EACCES : 0;

			r = shmb_region_open(client, table[i].name, wanted[k], NULL, &region);
			if (r != expected)
				FAIL("%s as digit %u, access %u: %s", table[i].name, digit,
				     wanted[k], shmb_error_name(r));
			if (r == 0 && shmb_region_access(region) != need)
				FAIL("%s: access %u instead of %u", table[i].name,
				     shmb_region_access(region), need);
			shmb_region_free(region);
		}
	}
	shmb_client_free(client);
}

CASE(F05_every_mode_for_owner_group_and_other, SYSTEM)
{
	unsigned owner = 2, group = 1, other = 0;

	actor_run(broker, &ALICE, make_the_table, NULL);
	actor_run(broker, &ALICE, try_every_access, &owner);
	actor_run(broker, &BOB, try_every_access, &group);
	actor_run(broker, &CAROL, try_every_access, &other);
}

static int count(const struct shmb_region_info *info, void *userdata)
{
	++*(unsigned *)userdata;
	return 0;
}

static void see(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	unsigned seen = 0;

	CHECK_OK(shmb_region_list(client, "m/", count, &seen));
	CHECK_INT(seen, *(unsigned *)argument);
	shmb_client_free(client);
}

CASE(F11_lists_show_what_one_may_know_of, SYSTEM)
{
	unsigned all = TABLE, group = 0, other = 0;
	size_t i;

	for (i = 0; i < TABLE; i++) {
		group += granted(table[i].mode, 1) != 0;
		other += granted(table[i].mode, 0) != 0;
	}
	actor_run(broker, &ALICE, make_the_table, NULL);
	see(broker, &all); /* root */
	actor_run(broker, &ALICE, see, &all);
	actor_run(broker, &BOB, see, &group);
	actor_run(broker, &CAROL, see, &other);
}

/* ---- Owners ---- */

static void make_tables_of_alice(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options open = persistent(0777), closed = persistent(0700);
	struct shmb_region *none = NULL;

	shmb_region_free(create(client, "open", 4096, &open));
	shmb_region_free(create(client, "closed", 4096, &closed));
	shmb_region_free(create(client, "~1001/mine", 4096, &closed));
	CHECK_CODE(shmb_region_create(client, "~1002/yours", 4096, NULL, &none), SHMB_EACCES);
	CHECK_CODE(shmb_region_create(client, "~10011/mine", 4096, NULL, &none), SHMB_EACCES);
	CHECK_CODE(shmb_region_open_or_create(client, "~0/roots", 4096, NULL, &none), SHMB_EACCES);
	shmb_client_free(client);
}

static void administer_as_bob(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *none = NULL;

	CHECK_CODE(shmb_region_remove(client, "open"), SHMB_EACCES);
	CHECK_CODE(shmb_region_chmod(client, "open", 0700), SHMB_EACCES);
	CHECK_CODE(shmb_region_chown(client, "open", 1002, (uint32_t)-1), SHMB_EACCES);
	CHECK_CODE(shmb_region_chown(client, "open", (uint32_t)-1, SHARED_GROUP), SHMB_EACCES);
	CHECK_CODE(shmb_region_remove(client, "closed"), SHMB_ENOENT);
	CHECK_CODE(shmb_region_chmod(client, "closed", 0777), SHMB_ENOENT);
	CHECK_CODE(shmb_region_chown(client, "closed", 1002, 1002), SHMB_ENOENT);
	CHECK_CODE(shmb_region_create(client, "closed", 4096, NULL, &none), SHMB_EEXIST);
	shmb_client_free(client);
}

static void administer_as_alice(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_info info = { .struct_size = sizeof(info) };

	CHECK_OK(shmb_region_chmod(client, "open", 0640));
	CHECK_CODE(shmb_region_chmod(client, "open", 01000), SHMB_EINVAL);
	CHECK_OK(shmb_region_chown(client, "open", (uint32_t)-1, SHARED_GROUP));
	CHECK_OK(shmb_region_chown(client, "open", 1001, SHARED_GROUP));
	CHECK_CODE(shmb_region_chown(client, "open", 1002, (uint32_t)-1), SHMB_EACCES);
	CHECK_CODE(shmb_region_chown(client, "open", (uint32_t)-1, 1002), SHMB_EACCES);
	CHECK_OK(shmb_region_stat(client, "open", &info));
	CHECK_INT(info.mode, 0640);
	CHECK_INT(info.uid, 1001);
	CHECK_INT(info.gid, SHARED_GROUP);
	CHECK_OK(shmb_region_remove(client, "closed"));
	shmb_client_free(client);
}

CASE(only_owner_and_root_administer, SYSTEM)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region_options options = persistent(0700);

	actor_run(broker, &ALICE, make_tables_of_alice, NULL);
	actor_run(broker, &BOB, administer_as_bob, NULL);
	actor_run(broker, &ALICE, administer_as_alice, NULL);
	CHECK_OK(shmb_region_chown(client, "open", 1002, 1003));
	CHECK_OK(shmb_region_stat(client, "open", &info));
	CHECK_INT(info.uid, 1002);
	CHECK_INT(info.gid, 1003);
	shmb_region_free(create(client, "~1002/by-root", 4096, &options));
	shmb_region_free(open_region(client, "~1001/mine", SHMB_READ | SHMB_WRITE));
	CHECK_OK(shmb_region_remove(client, "~1001/mine"));
	shmb_client_free(client);
}

static void stay_attached(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, "open", SHMB_READ | SHMB_WRITE), *none;

	say(1);
	hear();
	CHECK_OK(shmb_region_write_u32(region, 0, 77));
	CHECK_OK(shmb_region_resize(region, 8192));
	CHECK_CODE(shmb_region_open(client, "open", SHMB_READ, NULL, &none), SHMB_ENOENT);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(chmod_is_for_those_who_open_later, SYSTEM)
{
	struct shmb_region_options options = persistent(0706);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct actor bob;
	uint32_t value;

	options.capacity = 8192;
	region = create(client, "open", 4096, &options);
	bob = actor_start(broker, &BOB, stay_attached, NULL);
	actor_hear(&bob);
	CHECK_OK(shmb_region_chmod(client, "open", 0700));
	actor_say(&bob, 1);
	actor_end(&bob);
	CHECK_OK(shmb_region_read_u32(region, 0, &value));
	CHECK_INT(value, 77);
	CHECK_INT(shmb_region_size(region), 8192);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Read means read ---- */

/* Can this process open its own descriptor again for writing? */
static bool reopens(int fd)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again >= 0)
		close(again);
	return again >= 0;
}

/* The way in exists, where the file's mode lets it: without this the test below would prove
 * nothing. */
static void check_that_reopening_is_possible_at_all(void)
{
	int fd = SYS(memfd_create("own", MFD_CLOEXEC));

	CHECK(reopens(fd));
	close(fd);
}

static void check_that_nothing_writes(int fd)
{
	static const int seals[] = { F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, F_SEAL_SEAL,
				     F_SEAL_EXEC };
	char byte = 1;
	void *page;
	size_t i;

	CHECK_INT(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(page != MAP_FAILED);
	CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) < 0 && errno == EACCES);
	munmap(page, 4096);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(page == MAP_FAILED && errno == EACCES);
	CHECK(pwrite(fd, &byte, 1, 0) < 0);
	CHECK(ftruncate(fd, 0) < 0);
	CHECK(ftruncate(fd, 1 << 30) < 0);
	CHECK(fallocate(fd, 0, 0, 1 << 20) < 0);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0);
	for (i = 0; i < sizeof(seals) / sizeof(seals[0]); i++)
		CHECK(fcntl(fd, F_ADD_SEALS, seals[i]) < 0);
	CHECK(fcntl(fd, F_SETFL, O_RDWR) < 0 || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
}

static void attack_as_reader(struct broker *broker, void *argument)
{
	struct wire_region_resize_params resize = { .size = 1 };
	struct wire_region_handle published = { .handle = 0 };
	struct wire_region_attached attached;
	struct raw *raw = raw_connect(broker);
	int fds[2], i;

	check_that_reopening_is_possible_at_all();
	raw_hello(raw);
	CHECK_OK(raw_open(raw, argument, SHMB_READ, &attached, fds));
	for (i = 0; i < 2; i++) { /* the data, and the publish page */
		check_that_nothing_writes(fds[i]);
		CHECK(!reopens(fds[i]));
		CHECK(fchmod(fds[i], 0666) < 0 && errno == EPERM);
		close(fds[i]);
	}
	CHECK_CODE(raw_open(raw, argument, SHMB_READ | SHMB_WRITE, &attached, fds), SHMB_EACCES);
	/* Nor does the broker do it for one who only reads. */
	resize.handle = published.handle = attached.handle;
	CHECK_CODE(raw_call(raw, WIRE_REGION_RESIZE, &resize, NULL), SHMB_EMODE);
	CHECK_CODE(raw_call(raw, WIRE_REGION_PUBLISHED, &published, NULL), SHMB_EMODE);
	raw_free(raw);
}

static void attack_library_mapping(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = open_region(client, argument, SHMB_READ);
	struct shmb_view view;
	char byte = 1;

	CHECK(mprotect(shmb_region_data(region), 4096, PROT_READ | PROT_WRITE) < 0);
	CHECK_CODE(shmb_region_write(region, 0, &byte, 1, 0), SHMB_EMODE);
	CHECK_CODE(shmb_region_write_u64(region, 0, 1), SHMB_EMODE);
	CHECK_CODE(shmb_region_write_string(region, 0, "x"), SHMB_EMODE);
	CHECK_CODE(shmb_region_resize(region, 100), SHMB_EMODE);
	CHECK_CODE(shmb_region_publish(region, 0, 0), SHMB_EMODE);
	CHECK_CODE(shmb_region_view(region, 0, 8, 0, SHMB_READ | SHMB_WRITE, &view), SHMB_EMODE);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void check_untouched(struct broker *broker, struct shmb_region *region)
{
	uint8_t byte = 0xff;

	CHECK_OK(shmb_region_read_u8(region, 0, &byte));
	CHECK_INT(byte, 42);
	CHECK_INT(shmb_region_sequence(region), 0);
}

static void owner_of(struct broker *broker, void *argument)
{
	struct shmb_region_options options = persistent(0744);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *region;
	const char *name = argument;

	options.backing = strstr(name, "shm") ? SHMB_BACKING_SHM : SHMB_BACKING_DEFAULT;
	region = create(client, name, 4096, &options);
	CHECK_OK(shmb_region_write_u8(region, 0, 42));
	CHECK_OK(shmb_region_info(region, &info));
	CHECK_INT(info.backing, strstr(name, "shm") ? SHMB_BACKING_SHM : SHMB_BACKING_MEMFD);
	say(1);
	hear();
	check_untouched(broker, region);
	shmb_region_free(region);
	CHECK_OK(shmb_region_remove(client, name));
	shmb_client_free(client);
}

static void attack_under_other_users(struct broker *broker, const char *name)
{
	struct actor alice = actor_start(broker, &ALICE, owner_of, (void *)(uintptr_t)name);

	actor_hear(&alice);
	actor_run(broker, &BOB, attack_as_reader, (void *)(uintptr_t)name);
	actor_run(broker, &CAROL, attack_as_reader, (void *)(uintptr_t)name);
	actor_run(broker, &BOB, attack_library_mapping, (void *)(uintptr_t)name);
	actor_say(&alice, 1);
	actor_end(&alice);
}

CASE(F05_memfd_read_only_holds_against_other_users, SYSTEM)
{
	attack_under_other_users(broker, "sealed");
}

CASE(F05_shm_read_only_holds_against_other_users, SYSTEM, .arguments = { "--allow-shm=trusted/" })
{
	attack_under_other_users(broker, "trusted/shm");
}

static void ask_for_shm(struct broker *broker, void *argument)
{
	struct shmb_region_options options = persistent(0700);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *none = NULL;

	options.backing = SHMB_BACKING_SHM;
	CHECK_CODE(shmb_region_create(client, "anywhere", 4096, &options, &none), SHMB_EACCES);
	shmb_client_free(client);
}

CASE(F05_several_users_do_not_get_shm_unasked, SYSTEM, .arguments = { "--allow-shm=trusted/" })
{
	actor_run(broker, &ALICE, ask_for_shm, NULL);
}

static void attack_as_writer(struct broker *broker, void *argument)
{
	struct wire_region_attached attached;
	struct raw *raw = raw_connect(broker);
	struct stat st;
	int fds[2], i;

	raw_hello(raw);
	CHECK_OK(raw_open(raw, "shared", SHMB_READ | SHMB_WRITE, &attached, fds));
	for (i = 0; i < 2; i++) {
		CHECK(ftruncate(fds[i], 0) < 0 && errno == EPERM);
		CHECK(ftruncate(fds[i], 1 << 30) < 0 && errno == EPERM);
		CHECK(fallocate(fds[i], 0, 0, 1 << 30) < 0 && errno == EPERM);
		CHECK(fcntl(fds[i], F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0 && errno == EPERM);
		CHECK(fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
		CHECK(fchmod(fds[i], 0666) < 0 && errno == EPERM);
		CHECK(fstat(fds[i], &st) == 0 && st.st_size == 4096);
		CHECK_INT(st.st_mode & 0777, 0600);
		close(fds[i]);
	}
	raw_free(raw);
}

CASE(F05_a_writer_cannot_truncate_grow_or_seal_a_memfd, SYSTEM)
{
	struct shmb_region_options options = persistent(0706);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "shared", 4096, &options);

	actor_run(broker, &BOB, attack_as_writer, NULL);
	CHECK_OK(shmb_region_write_u8(region, 4095, 1));
	CHECK_OK(shmb_region_publish(region, 0, 0));
	shmb_region_free(region);
	shmb_client_free(client);
}

/*
 * Within one uid a read-only descriptor is a fence against mistakes, not against malice: what
 * belongs to the same user can be opened again for writing. And shm cannot be sealed, so whoever
 * has it writable can truncate it under everybody else. This is why a broker of several users hands
 * out sealed memfds that belong to itself, and what the case below states is what is given up
 * elsewhere.
 */
CASE(F05_what_shm_among_one_uid_cannot_stop, PRIVATE)
{
	struct shmb_region_options options = persistent(0700);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "own", 4096, &options);
	struct wire_region_attached attached;
	struct raw *raw = raw_connect(broker);
	int fds[2], writable[2];
	struct stat status;

	raw_hello(raw);
	CHECK_OK(raw_open(raw, "own", SHMB_READ, &attached, fds));
	for (size_t i = 0; i < 2; i++) { /* of other users', nobody opens it by its name */
		SYS(fstat(fds[i], &status));
		CHECK_INT(status.st_mode & 0777, 0600);
	}
	check_that_nothing_writes(fds[0]); /* the descriptor itself holds */
	CHECK(reopens(fds[0]));            /* but the file is the user's own */
	CHECK_OK(raw_open(raw, "own", SHMB_READ | SHMB_WRITE, &attached, writable));
	CHECK_OK(ftruncate(writable[0], 8192)); /* past the quota */
	CHECK_OK(ftruncate(writable[0], 4096));
	close(fds[0]);
	close(fds[1]);
	close(writable[0]);
	close(writable[1]);
	raw_free(raw);
	shmb_region_free(region);
	CHECK_OK(shmb_region_remove(client, "own"));
	shmb_client_free(client);
}

CASE(F05_memfd_among_one_uid_cannot_be_truncated, PRIVATE)
{
	struct shmb_region_options options = persistent(0700);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	int fd;

	options.backing = SHMB_BACKING_MEMFD;
	options.flags = SHMB_KEEP_FD;
	region = create(client, "own", 4096, &options);
	fd = shmb_region_fd(region);
	CHECK(ftruncate(fd, 0) < 0 && errno == EPERM);
	CHECK(ftruncate(fd, 8192) < 0 && errno == EPERM);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0 && errno == EPERM);
	shmb_region_free(region);
	CHECK_OK(shmb_region_remove(client, "own"));
	shmb_client_free(client);
}

static void connect_refused(struct broker *broker, void *argument)
{
	struct shmb_client *client = NULL;

	CHECK_CODE(shmb_client_connect(broker->socket, NULL, &client), SHMB_EACCES);
}

CASE(a_private_broker_serves_its_own_user_and_root_alone, PRIVATE)
{
	if (geteuid() != 0)
		SKIP("needs root: a process of another user");
	actor_run(broker, &ALICE, connect_refused, NULL);
	UNTIL(broker, broker_stat(broker, "refused_total") == 1);
	shmb_client_free(connect_to(broker));
}

/* ---- Lists over what is not the caller's to know ---- */

enum { HIDDEN = 1500 }; /* more than the broker looks at for one page */

static void list_past_the_hidden(struct broker *broker, void *argument)
{
	struct raw *raw = raw_connect(broker);
	struct wire_region_list_params params = { .has = 0 };
	struct wire_region_list_result page;
	char cursor[SHMB_NAME_MAX];
	unsigned pages = 0, seen = 0;

	raw_hello(raw);
	do {
		CHECK_OK(raw_call(raw, WIRE_REGION_LIST, &params, &page));
		seen += (unsigned)page.n_regions;
		for (size_t i = 0; i < page.n_regions; i++)
			CHECK(memcmp(page.regions[i].name.data, "zebra", 5) == 0);
		CHECK(memmem(raw->buffer, raw->packet.length, "hidden", 6) == NULL);
		if (page.cursor.length > 0) /* absent on the last page */
			memcpy(cursor, page.cursor.data, page.cursor.length);
		params.cursor = (struct wire_bytes){ cursor, page.cursor.length };
		params.has = WIRE_HAS(region_list_params, cursor);
		CHECK(++pages < 10);
	} while (page.has & WIRE_HAS(region_list_result, cursor));
	CHECK_INT(seen, 1);
	CHECK(pages > 1);
	params.cursor = wire_string("=77"); /* no such place */
	CHECK_CODE(raw_call(raw, WIRE_REGION_LIST, &params, NULL), SHMB_EBUSY);
	raw_free(raw);
}

CASE(lists_tell_nothing_of_what_is_hidden, SYSTEM)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	char name[32];

	options.lifetime = SHMB_PERSISTENT;
	for (unsigned i = 0; i < HIDDEN; i++) {
		snprintf(name, sizeof(name), "hidden/%u", i);
		shmb_region_free(create(client, name, 1, &options));
	}
	options.mode = 0704;
	shmb_region_free(create(client, "zebra", 1, &options));
	actor_run(broker, &ALICE, list_past_the_hidden, NULL);
	for (unsigned i = 0; i < HIDDEN; i++) {
		snprintf(name, sizeof(name), "hidden/%u", i);
		CHECK_OK(shmb_region_remove(client, name));
	}
	CHECK_OK(shmb_region_remove(client, "zebra"));
	shmb_client_free(client);
}
