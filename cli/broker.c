/* SPDX-License-Identifier: MIT */
/*
 * The connection of one invocation: connecting, opening, and waiting for events. Each is told on
 * stderr if it fails, so that commands only pass the status on.
 */

#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* Those that wait have a timeout of their own meaning; their requests keep the library's. */
static bool timeout_is_for_requests(const struct cli *cli)
{
	static const struct cli_command *const waiting[] = {
		&command_wait, &command_watch, &command_lock, &command_sem_wait, &command_sem_take,
	};

	for (size_t i = 0; i < sizeof(waiting) / sizeof(waiting[0]); i++)
		if (cli->command == waiting[i])
			return false;
	return cli->timeout.given;
}

int cli_connect(struct cli *cli)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	int result;

	if (cli->client != NULL)
		return CLI_OK;
	options.name = cli->client_name != NULL ? cli->client_name : "shmbctl";
	if (timeout_is_for_requests(cli))
		options.timeout_ms = cli->timeout.value > 0 ? (int)cli->timeout.value : 1;
	result = shmb_client_connect(cli->address, &options, &cli->client);
	return result < 0 ? cli_fail_connect(cli, result) : CLI_OK;
}

int cli_open(struct cli *cli, const char *name, unsigned access, struct shmb_region **ret_region)
{
	int result = cli_connect(cli);

	if (result != CLI_OK)
		return result;
	result = shmb_region_open(cli->client, name, access, NULL, ret_region);
	return result < 0 ? cli_fail_client(cli, name, result) : CLI_OK;
}

int cli_range(struct cli *cli, struct shmb_region *region, const struct cli_number *offset,
	      const struct cli_number *length, uint64_t *ret_offset, uint64_t *ret_length)
{
	uint64_t size = shmb_region_size(region), left;

	*ret_offset = offset->given ? offset->value : 0;
	left = *ret_offset <= size ? size - *ret_offset : 0;
	*ret_length = length->given ? length->value : left;
	if (*ret_offset > size || *ret_length > left)
		return cli_fail_bounds(cli, shmb_region_name(region), *ret_offset, *ret_length,
				       size);
	return CLI_OK;
}

int64_t cli_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t cli_deadline(const struct cli *cli)
{
	return cli->timeout.given ? cli_now_ms() + (int64_t)cli->timeout.value : -1;
}

static int remaining_ms(int64_t deadline_ms)
{
	int64_t left;

	if (deadline_ms < 0)
		return -1;
	left = deadline_ms - cli_now_ms();
	return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

int cli_wait_client(struct cli *cli, int other_fd, int64_t deadline_ms)
{
	struct pollfd fds[2] = { { .fd = shmb_client_get_fd(cli->client) },
				 { .fd = other_fd, .events = POLLIN } };
	int result;

	if (fds[0].fd < 0)
		return fds[0].fd;
	fds[0].events = (short)shmb_client_get_events(cli->client);
	do
		result = poll(fds, 2, remaining_ms(deadline_ms));
	while (result < 0 && errno == EINTR);
	if (result < 0)
		return -errno;
	if (fds[0].revents != 0) {
		result = shmb_client_process(cli->client);
		return result < 0 ? result : 1;
	}
	return fds[1].revents != 0 ? 2 : 0;
}

/* ---- Holding something until told to end ---- */

sigset_t cli_hold_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signals;
}

static void note_removed(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	bool *removed = userdata;

	if ((event->types & SHMB_EVENT_REMOVED) != 0)
		*removed = true;
}

int cli_note_removal(struct cli *cli, struct shmb_region *region, bool *removed)
{
	int result = shmb_client_get_fd(cli->client); /* events flow from now on */

	return result < 0 ? result
			  : shmb_region_watch(region, SHMB_EVENT_REMOVED,
					      shmb_region_sequence(region), note_removed, removed);
}

int cli_hold(struct cli *cli, const char *name, const sigset_t *signals, const bool *removed)
{
	int fd = signalfd(-1, signals, SFD_CLOEXEC);
	int result;

	if (fd < 0)
		return cli_fail_errno(cli, "signalfd", errno);
	do
		result = cli_wait_client(cli, fd, -1);
	while (result == 1 && (removed == NULL || !*removed));
	close(fd);
	if (result == 1)
		return cli_fail(cli, SHMB_ENOENT, name, "the region was removed");
	return result < 0 ? cli_fail_client(cli, name, result) : CLI_OK;
}
