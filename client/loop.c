/* SPDX-License-Identifier: MIT */
/*
 * For event loops: the one descriptor, and the callbacks. The descriptor is an epoll that holds the
 * socket (also for writing while output waits; none while the broker is away), an eventfd (a
 * blocking call of some thread took something off the socket that a callback is due for), a timer
 * (the next asynchronous call to expire, the next look for a broker that is away) and what tells of
 * changes to files. Callbacks run in shmb_client_process() and nowhere else.
 */

#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "calls.h"
#include "client.h"
#include "clock.h"
#include "make.h"
#include "output.h"
#include "receive.h"
#include "region.h"
#include "resume.h"
#include "watch.h"

enum { RETRY_NS = 100000000 }; /* until the system may have room for us in the epoll again */

/* ---- The descriptor ---- */

static void set_event(struct shmb_client *client)
{
	uint64_t one = 1;

	/* What shmb_client_process() collects, it runs. */
	if (client->event < 0 || client->event_set || client->collecting)
		return;
	/* Cannot fail: the counter is zero, and non-blocking. */
	client->event_set = write(client->event, &one, sizeof(one)) == (ssize_t)sizeof(one);
}

static void clear_event(struct shmb_client *client)
{
	uint64_t count;

	if (client->event_set && read(client->event, &count, sizeof(count)) < 0)
		return;
	client->event_set = false;
}

static void set_timer(struct shmb_client *client, int64_t deadline)
{
	struct itimerspec when = {
		.it_value = { .tv_sec = (time_t)(deadline / 1000000000),
			      .tv_nsec = (long)(deadline % 1000000000) },
	};

	client->timer_deadline = deadline;
	if (client->timer >= 0)
		timerfd_settime(client->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int add(struct shmb_client *client, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data = { .fd = fd } };

	return epoll_ctl(client->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -1;
}

static int open_descriptors(struct shmb_client *client)
{
	client->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (client->epoll < 0)
		return -1;
	client->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (client->event < 0)
		return -1;
	client->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (client->timer < 0)
		return -1;
	if (add(client, client->event, EPOLLIN) < 0 || add(client, client->timer, EPOLLIN) < 0)
		return -1;
	if (client->files >= 0 && add(client, client->files, EPOLLIN) < 0)
		return -1;
	if (client->gone || client->connection == CONNECTION_AWAY)
		return 0;
	if (client->connection == CONNECTION_GREETING)
		return add(client, client->resume.socket, EPOLLIN);
	client->socket_polled = add(client, client->socket, EPOLLIN) == 0;
	return client->socket_polled ? 0 : -1;
}

static int open_loop(struct shmb_client *client)
{
	if (open_descriptors(client) < 0) {
		int error = error_from_errno(errno);

		loop_close(client);
		return error;
	}
	client->event_set = false;
	loop_output_changed(client);
	set_timer(client, client->timer_deadline);
	if (client->gone || !TAILQ_EMPTY(&client->work))
		set_event(client);
	return 0;
}

void loop_close(struct shmb_client *client)
{
	int *fds[] = { &client->epoll, &client->event, &client->timer };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	client->socket_polled = client->output_polled = false;
}

int loop_watch(struct shmb_client *client, int socket)
{
	return client->epoll < 0 ? 0 : add(client, socket, EPOLLIN);
}

/* Also where the number will stay: a forked child may keep the socket behind it open. */
void loop_unwatch(struct shmb_client *client, int socket)
{
	if (client->epoll >= 0)
		epoll_ctl(client->epoll, EPOLL_CTL_DEL, socket, NULL);
	if (socket == client->socket)
		client->socket_polled = client->output_polled = false;
}

void loop_watch_connection(struct shmb_client *client)
{
	if (client->epoll < 0 || client->socket_polled)
		return;
	client->socket_polled = loop_watch(client, client->socket) == 0;
	loop_output_changed(client);
}

void loop_output_changed(struct shmb_client *client)
{
	bool wanted = output_blocked(client);
	struct epoll_event event = { .events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN };

	if (!client->socket_polled || client->gone || wanted == client->output_polled)
		return;
	if (epoll_ctl(client->epoll, EPOLL_CTL_MOD, client->socket, &event) == 0)
		client->output_polled = wanted;
}

static int64_t sooner(int64_t a, int64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

static int64_t next_deadline(const struct shmb_client *client)
{
	int64_t next = sooner(calls_next_deadline(client), resume_deadline(client));

	next = sooner(next, watch_deadline(client));
	if (client->epoll >= 0 && client->connection == CONNECTION_UP && !client->socket_polled &&
	    !client->gone)
		next = sooner(next, clock_now() + RETRY_NS);
	return next;
}

void loop_deadline_changed(struct shmb_client *client)
{
	int64_t next = next_deadline(client);

	if (next != client->timer_deadline)
		set_timer(client, next);
}

int loop_start_call(struct shmb_client *client, struct call *call, const void *params)
{
	int result;

	pthread_mutex_lock(&client->mutex);
	client->n_async++; /* first: a connection that breaks now ends the call at once */
	result = call_start(client, call, params, client_deadline(client));
	if (result < 0)
		client->n_async--;
	loop_deadline_changed(client);
	pthread_mutex_unlock(&client->mutex);
	return result;
}

void loop_disconnected(struct shmb_client *client)
{
	loop_unwatch(client, client->socket);
	if (client->resume.socket >= 0)
		loop_unwatch(client, client->resume.socket);
	set_event(client);
}

int shmb_client_get_fd(struct shmb_client *client)
{
	int result = 0;

	if (client_forked(client))
		return SHMB_EFORKED;
	pthread_mutex_lock(&client->mutex);
	if (client->epoll < 0)
		result = open_loop(client);
	if (result == 0)
		result = client->epoll;
	pthread_mutex_unlock(&client->mutex);
	return result < 0 ? error_note(&client->error, result, "event loop") : result;
}

int shmb_client_get_events(struct shmb_client *client)
{
	return client_forked(client) ? SHMB_EFORKED : POLLIN;
}

/* ---- Work ---- */

void loop_queue(struct shmb_client *client, struct work *work)
{
	TAILQ_INSERT_TAIL(&client->work, work, link);
	work->queued = true;
	set_event(client);
}

void loop_unqueue(struct shmb_client *client, struct work *work)
{
	TAILQ_REMOVE(&client->work, work, link);
	work->queued = false;
}

/* Ends an answered asynchronous call. Return: 1, or SHMB_EFORKED as watch_run(). */
static int run_call(struct shmb_client *client, struct call *call)
{
	struct shmb_region *region = NULL;
	int status = call->error.code;
	bool again;

	pthread_mutex_unlock(&client->mutex);
	if (status < 0)
		error_set(&client->error, &call->error);
	else
		call->error.code = status = region_attach(client, call, &region);
	again = status < 0 && make_again(client, call);
	if (!again)
		call->callback(status, region, call->userdata);
	call_free(call);
	if (client_forked(client))
		return SHMB_EFORKED;
	pthread_mutex_lock(&client->mutex);
	return again ? 0 : 1;
}

/* The same of one that makes nothing. */
static int run_done(struct shmb_client *client, struct call *call)
{
	pthread_mutex_unlock(&client->mutex);
	if (call->error.code < 0)
		error_set(&client->error, &call->error);
	call->done(call->error.code, call->userdata);
	call_free(call);
	if (client_forked(client))
		return SHMB_EFORKED;
	pthread_mutex_lock(&client->mutex);
	return 1;
}

/* Return: as watch_run(). */
static int run_region(struct shmb_client *client, struct shmb_region *region)
{
	int result = watch_run(region);

	if (result == SHMB_EFORKED) {
		region_unref(region);
		return result;
	}
	pthread_mutex_unlock(&client->mutex);
	region_unref(region); /* of the queue; may be the last */
	pthread_mutex_lock(&client->mutex);
	return result;
}

static int run_work(struct shmb_client *client, struct work *work)
{
	char *base = (char *)work;
	struct call *call = (struct call *)(base - offsetof(struct call, work));

	loop_unqueue(client, work);
	if (work->kind == WORK_CALL)
		return call->done ? run_done(client, call) : run_call(client, call);
	if (work->kind == WORK_OPERATION)
		return background_run(client, work);
	return run_region(client,
			  (struct shmb_region *)(base - offsetof(struct shmb_region, work)));
}

/* What is due now; what the callbacks cause is left for the next time. */
static int run_due(struct shmb_client *client)
{
	struct work *work;
	size_t n_due = 0;
	int n_run = 0;

	TAILQ_FOREACH(work, &client->work, link)
		n_due++;
	for (; n_due > 0 && !client->freed; n_due--) {
		int result;

		work = TAILQ_FIRST(&client->work);
		if (!work)
			break;
		result = run_work(client, work);
		if (result < 0)
			return result;
		n_run += result;
	}
	return n_run;
}

static void prepare(struct shmb_client *client)
{
	uint64_t expirations;
	ssize_t taken;

	client->collecting = true;
	clear_event(client);
	if (client->timer >= 0) {
		do
			taken = read(client->timer, &expirations, sizeof(expirations));
		while (taken < 0 && errno == EINTR);
		if (taken > 0)
			client->timer_deadline = 0; /* is to be set again, whatever for */
	}
	if (client->connection == CONNECTION_UP && !client->gone)
		loop_watch_connection(client);
	output_flush(client);
	/* While a thread polls the socket, what comes is its: it would sleep on without it. */
	if (!client->reading) {
		if (client->connection != CONNECTION_UP)
			resume_advance(client);
		receive_packets(client, PACKETS_PER_PROCESS);
	}
	watch_files(client);
	watch_arm_lost(client);
	calls_expire(client);
	client->collecting = false;
}

static int process(struct shmb_client *client)
{
	int result;

	prepare(client);
	result = run_due(client);
	if (result < 0)
		return result;
	client->processing = false;
	loop_deadline_changed(client);
	if (!TAILQ_EMPTY(&client->work))
		set_event(client);
	if (client->gone)
		result = SHMB_EDISCONNECTED;
	pthread_mutex_unlock(&client->mutex);
	return result;
}

int shmb_client_process(struct shmb_client *client)
{
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	pthread_mutex_lock(&client->mutex);
	if (client->processing) {
		pthread_mutex_unlock(&client->mutex);
		return SHMB_EBUSY;
	}
	client->processing = true;
	client_ref(client); /* a callback may free it */
	result = process(client);
	client_unref(client);
	return result;
}
