/* SPDX-License-Identifier: MIT */
/*
 * A daemon that is killed at every step while regions grow into new segments, are made of files,
 * have no name, and are handed on by ticket. See daemon_play.h.
 */
#include "daemon_play.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static struct shmb_region *make_file(struct broker *broker, struct part *part, uint64_t size)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.backing = SHMB_BACKING_FILE;
	options.path = broker_path(broker, "file");
	options.file_flags = SHMB_FILE_CREATE | SHMB_FILE_TRUNCATE;
	return create(part->client, "f", size, &options);
}

/* Twice, and both see it; what was there is there. */
static void run_grow(struct broker *broker, struct part *part)
{
	struct shmb_region *region = play_make(part, "r", 2 * PAGE, 0, SHMB_ATTACHED);
	struct shmb_region *other = open_region(part->client, "r", SHMB_READ);

	play_fill(region, 2 * PAGE, 1);
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, LONG_MS));
	CHECK_OK(shmb_region_resize(region, 5 * PAGE));
	play_fill(region, 5 * PAGE, 2);
	CHECK_OK(shmb_region_unlock(region));
	play_check(other, 5 * PAGE, 2);
	CHECK_OK(shmb_region_lock(region, SHMB_EXCLUSIVE, LONG_MS));
	CHECK_OK(shmb_region_resize(region, 9 * PAGE));
	CHECK_OK(shmb_region_resize(region, 5 * PAGE));
	CHECK_OK(shmb_region_unlock(region));
	play_check(region, 5 * PAGE, 2);
	play_check(other, 5 * PAGE, 2);
	shmb_region_free(other);
	other = open_region(part->client, "r", SHMB_READ);
	play_check(other, 5 * PAGE, 2);
	CHECK_INT(shmb_region_capacity(other), 9 * PAGE);
	shmb_region_free(other);
	shmb_region_free(region);
}

static void run_tickets(struct broker *broker, struct part *part)
{
	struct shmb_region *anonymous = play_make(part, NULL, PAGE, 0, SHMB_ATTACHED),
			   *other = NULL;
	struct shmb_ticket ticket, unused;

	play_fill(anonymous, PAGE, 1);
	CHECK_OK(shmb_region_ticket(anonymous, SHMB_READ, &unused));
	CHECK_OK(shmb_region_ticket(anonymous, SHMB_READ | SHMB_WRITE, &ticket));
	/* Each daemon that takes over writes it down again. */
	for (int i = 0; i < 2; i++) {
		kill(atomic_load(&part->page->pid), SIGKILL);
		CHECK_OK(shmb_client_ping(part->client));
	}
	CHECK_OK(shmb_region_redeem(part->client, ticket.text, SHMB_READ, NULL, &other));
	CHECK_CODE(shmb_region_redeem(part->client, ticket.text, SHMB_READ, NULL, &other),
		   SHMB_ENOENT);
	shmb_region_free(anonymous);
	play_check(other, PAGE, 1);
	shmb_region_free(other);
	other = NULL;
	CHECK_CODE(shmb_region_redeem(part->client, unused.text, SHMB_READ, NULL, &other),
		   SHMB_ENOENT);
}

static void run_file(struct broker *broker, struct part *part)
{
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *region = make_file(broker, part, 2 * PAGE), *other;
	char byte = 0;
	int fd;

	play_fill(region, 2 * PAGE, 1);
	CHECK_OK(shmb_region_resize(region, 4 * PAGE));
	play_fill(region, 4 * PAGE, 2);
	CHECK_OK(shmb_region_resize(region, 3 * PAGE));
	other = open_region(part->client, "f", SHMB_READ);
	play_check(other, 3 * PAGE, 2);
	CHECK_OK(shmb_region_stat(part->client, "f", &info));
	CHECK_INT(info.backing, SHMB_BACKING_FILE);
	CHECK_STRING(info.path, broker_path(broker, "file"));
	shmb_region_free(region);
	play_check(other, 3 * PAGE, 2);
	shmb_region_free(other);
	fd = SYS(open(broker_path(broker, "file"), O_RDONLY | O_CLOEXEC));
	/* What a daemon has begun the next one does in its own time. */
	while (lseek(fd, 0, SEEK_END) != 3 * PAGE)
		CHECK_OK(shmb_client_ping(part->client));
	CHECK_INT(pread(fd, &byte, 1, 64), 1);
	CHECK_INT(byte, 7 + 2);
	close(fd);
	SYS(unlink(broker_path(broker, "file")));
}

static const struct scenario on_mapped[] = {
	{ "grow", NULL, run_grow, 40 },
	{ "tickets", NULL, run_tickets, 20 },
};

static const struct scenario on_files[] = {
	{ "file", NULL, run_file, 20 },
};

CASE(F33_growing_at_every_step, STEPS)
{
	PLAY(on_mapped, SHMB_BACKING_SHM, 0);
}

CASE(F33_growing_stored_memory_at_every_step, STEPS, .fd_store = 64)
{
	PLAY(on_mapped, SHMB_BACKING_MEMFD, 0);
}

CASE(F33_growing_twice_in_a_row, STEPS)
{
	PLAY(on_mapped, SHMB_BACKING_SHM, 29);
}

CASE(F02_files_at_every_step, STEPS, .fd_store = 64)
{
	PLAY(on_files, SHMB_BACKING_MEMFD, 0);
}
