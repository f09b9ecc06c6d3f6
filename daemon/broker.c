/* SPDX-License-Identifier: MIT */
/*
 * The broker: puts its parts together and takes them apart. What the process around it does
 * (signals, notification, the lock) is daemon.c's.
 */
#include "broker.h"

#include "guard.h"
#include "listener.h"
#include "log.h"
#include "peer.h"
#include "remember.h"
#include "session.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utlist.h>

enum {
	FD_RESERVE = 64
}; /* the loop's own, the listener's, and those open while a request is served */

/* A soft limit of 1024 descriptors is for programs that use select(2). */
static rlim_t raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	limit.rlim_cur = limit.rlim_max < 1048576 ? limit.rlim_max : 1048576;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}

static void on_nothing(uv_poll_t *watch, int status, int events)
{
}

static void on_closed_free(uv_handle_t *handle)
{
	free(handle->data);
}

/*
 * uv_poll_start() ends the process if libuv's table of watchers cannot grow. It is indexed by
 * descriptor: watching the highest possible one for a moment makes it as large as it will ever be,
 * now, when running out of memory is still a failure to start.
 */
static int grow_watchers(struct broker *broker, rlim_t limit)
{
	uv_poll_t *watch = malloc(sizeof(*watch));
	int event = eventfd(0, EFD_CLOEXEC);
	int highest = event < 0 ? -1 : fcntl(event, F_DUPFD_CLOEXEC, (int)limit - 1);
	int result = -ENOMEM;

	if (watch && event >= 0)
		result = uv_poll_init(&broker->loop, watch, highest < 0 ? event : highest);
	if (result == 0) {
		watch->data = watch;
		uv_poll_start(watch, UV_READABLE, on_nothing);
		uv_close((uv_handle_t *)watch, on_closed_free);
		uv_run(&broker->loop, UV_RUN_NOWAIT);
	} else {
		free(watch);
	}
	if (highest >= 0)
		close(highest);
	if (event >= 0)
		close(event);
	return result;
}

int broker_init(struct broker *broker, const struct options *options,
		const struct settings *settings)
{
	int result;

	memset(broker, 0, offsetof(struct broker, out));
	broker->options = *options;
	broker->listen_fd = broker->spare_fd = broker->instance.lock_fd = broker->manifest.fd = -1;
	store_init(&broker->store);
	broker->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	RB_INIT(&broker->regions.tree);
	result = uv_loop_init(&broker->loop);
	if (result < 0)
		return result;
	result = wire_decoder_init(&broker->decoder);
	if (result == 0) {
		rlim_t limit = raise_fd_limit();

		broker->fds_max = limit - (limit / 4 < FD_RESERVE ? limit / 4 : FD_RESERVE);
		broker_apply(broker, settings);
		result = grow_watchers(broker, limit);
		if (result < 0)
			wire_decoder_deinit(&broker->decoder);
	}
	if (result < 0) {
		uv_loop_close(&broker->loop);
		return result;
	}
	broker->discard.loop = &broker->loop;
	broker->started_ms = uv_now(&broker->loop);
	broker->blocked_tick.data = broker;
	uv_timer_init(&broker->loop, &broker->blocked_tick);
	watch_init(broker);
	slots_init(broker);
	remember_start(broker);
	guard_init();
	broker->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return 0;
}

void broker_apply(struct broker *broker, const struct settings *settings)
{
	uint64_t *huge = &broker->settings.per_user[CHARGE_HUGE_BYTES];
	uint64_t *held = &broker->settings.per_user[CHARGE_HELD_FDS];
	uint64_t *stored = &broker->settings.per_user[CHARGE_STORED_FDS];

	broker->settings = *settings;
	if (*huge == UINT64_MAX)
		*huge = broker->options.scope == SCOPE_SYSTEM ? 0 : INT64_MAX;
	if (*held == 0)
		*held = broker->options.scope == SCOPE_SYSTEM ? broker->fds_max / 4
							      : broker->fds_max;
	if (*stored == 0)
		*stored = broker->options.scope == SCOPE_SYSTEM ? broker->store.max / 4
								: broker->store.max;
}

int broker_hold_fds(struct broker *broker, struct account *account, unsigned n_fds)
{
	if (broker->accounts.total[CHARGE_HELD_FDS] + n_fds > broker->fds_max)
		return -EMFILE;
	return account_charge(account, CHARGE_HELD_FDS, n_fds,
			      broker->settings.per_user[CHARGE_HELD_FDS])
		       ? 0
		       : -EDQUOT;
}

void broker_stop(struct broker *broker)
{
	struct session *session, *next_session;
	struct region *region, *next;

	if (broker->stopping)
		return;
	broker->stopping = true;
	listener_close(broker);
	while (broker->peers) {
		if (!broker->leaving)
			peer_say_end(broker->peers);
		peer_free(broker->peers);
	}
	HASH_ITER(hh, broker->sessions, session, next_session)
		session_end(session); /* those that are away */
	region_batch_begin(broker);
	DL_FOREACH_SAFE2(broker->regions.all, region, next, next) /* resizing ones end with that */
		region_unlink(broker, region);
	region_batch_end(broker);
	segment_forget_others(&broker->segments, 0);
	discard_stop(&broker->discard);
	uv_close((uv_handle_t *)&broker->blocked_tick, NULL);
	watch_stop(broker);
	slots_stop(broker);
	remember_stop(broker);
}

void broker_leave(struct broker *broker)
{
	manifest_commit(&broker->manifest);
	manifest_close(&broker->manifest); /* the end of everything here is nobody's end */
	broker->leaving = true;
	broker_stop(broker);
}

void broker_deinit(struct broker *broker)
{
	wire_decoder_deinit(&broker->decoder);
	manifest_close(&broker->manifest);
	if (broker->spare_fd >= 0)
		close(broker->spare_fd);
	free(broker->socket_path);
	if (uv_loop_close(&broker->loop) != 0)
		log_error("the loop was closed with work left");
}
