/* SPDX-License-Identifier: MIT */
/*
 * An event loop of the program's own that also drives shmbroker: asynchronous open, a watch, and
 * another descriptor in the same poll().
 *
 * The program starts itself a second time as "ticker", which makes a region, says so on a pipe,
 * waits for the word to go, writes and publishes a few numbers, and removes the region. The loop
 * opens the region when the ticker says that it is there, watches it, and ends when it is removed.
 */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

enum { TICKS = 5, PATIENCE_MS = 10000 };

static const char region_name[] = "event-loop/ticks";

/* ---- The other process ---- */

static int ticker_run(struct shmb_client *client, struct shmb_region *region)
{
	char word;
	int r = 0;

	/* The region is there: say so on stdout, and wait for "go" on stdin. */
	if (write(STDOUT_FILENO, "+", 1) != 1 || read(STDIN_FILENO, &word, 1) != 1)
		return SHMB_EIO;
	for (uint64_t tick = 1; r >= 0 && tick <= TICKS; tick++) {
		r = shmb_region_write_u64(region, 0, tick);
		if (r >= 0)
			r = shmb_region_publish(region, 0, sizeof(tick));
	}
	return r < 0 ? r : shmb_region_remove(client, region_name);
}

static int ticker(void)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = shmb_region_create(client, region_name, 4096, NULL, &region);
	if (r >= 0)
		r = ticker_run(client, region);
	if (r < 0)
		fprintf(stderr, "ticker: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0;
}

/* ---- The loop ---- */

struct loop {
	struct shmb_client *client;
	struct shmb_region *region;
	int ticker;    /* our end of the ticker's stdin and stdout; -1 once it has been read */
	uint64_t seen; /* newest publish that was dealt with */
	bool done;
	int error;
};

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
	struct loop *loop = userdata;
	uint64_t tick = 0;

	if (event->types & SHMB_EVENT_PUBLISHED) {
		/* Publishes are merged while we are busy: the newest is what counts. */
		loop->error = shmb_region_read_u64(region, 0, &tick);
		loop->seen = event->sequence;
		printf("tick %llu (publish %llu)\n", (unsigned long long)tick,
		       (unsigned long long)event->sequence);
	}
	if (event->types & SHMB_EVENT_REMOVED) {
		printf("the region was removed\n");
		loop->done = true;
	}
	if (event->types & SHMB_EVENT_DISCONNECTED)
		loop->error = SHMB_EDISCONNECTED;
}

static void on_open(int status, struct shmb_region *region, void *userdata)
{
	struct loop *loop = userdata;

	loop->error = status;
	if (status < 0)
		return;
	printf("opened %s\n", shmb_region_name(region));
	loop->region = region;
	loop->error = shmb_region_watch(region, SHMB_EVENT_PUBLISHED | SHMB_EVENT_REMOVED, 0,
					on_event, loop);
	if (loop->error == 0 && send(loop->ticker, "g", 1, MSG_NOSIGNAL) != 1)
		loop->error = SHMB_EIO;
}

static int on_ticker_ready(struct loop *loop)
{
	char word;

	if (read(loop->ticker, &word, 1) != 1)
		return SHMB_EIO;
	return shmb_region_open_async(loop->client, region_name, SHMB_READ, NULL, on_open, loop);
}

static int loop_run(struct loop *loop)
{
	struct pollfd ready[2] = { { .fd = shmb_client_get_fd(loop->client) },
				   { .fd = loop->ticker, .events = POLLIN } };

	if (ready[0].fd < 0)
		return ready[0].fd;
	while (!loop->done) {
		int r;

		ready[0].events = (short)shmb_client_get_events(loop->client);
		if (poll(ready, 2, PATIENCE_MS) < 1)
			return SHMB_ETIMEDOUT;
		if (ready[1].revents) {
			r = on_ticker_ready(loop);
			if (r < 0)
				return r;
			ready[1].fd = -1; /* poll() skips it from now on */
		}
		if (ready[0].revents) {
			r = shmb_client_process(loop->client);
			if (r < 0)
				return r;
		}
		if (loop->error < 0)
			return loop->error;
	}
	/* Merged or not, the last one was told before the removal. */
	return loop->seen == TICKS ? 0 : SHMB_EPROTO;
}

static pid_t start_ticker(int *ret_fd)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		if (dup2(ends[1], STDIN_FILENO) >= 0 && dup2(ends[1], STDOUT_FILENO) >= 0)
			(void)execl("/proc/self/exe", "event_loop", "ticker", (char *)NULL);
		_exit(127);
	}
	(void)close(ends[1]);
	*ret_fd = ends[0];
	return pid;
}

int main(int argc, char **argv)
{
	struct loop loop = { .ticker = -1 };
	int r, status = 0;
	pid_t pid;

	if (argc > 1 && strcmp(argv[1], "ticker") == 0)
		return ticker();
	pid = start_ticker(&loop.ticker);
	if (pid < 0) {
		perror("event_loop");
		return EXIT_FAILURE;
	}
	r = shmb_client_connect(NULL, NULL, &loop.client);
	if (r >= 0)
		r = loop_run(&loop);
	if (r < 0)
		fprintf(stderr, "event_loop: %s\n", shmb_strerror(r));
	shmb_region_free(loop.region);
	shmb_client_free(loop.client);
	(void)close(loop.ticker); /* a ticker that still waits for the word gives up */
	if (waitpid(pid, &status, 0) != pid || status != 0)
		r = SHMB_EIO;
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
