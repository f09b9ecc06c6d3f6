/* SPDX-License-Identifier: MIT */
/*
 * The process: configuration, instance lock, signals, service manager. Must not know peers or
 * regions.
 */
#include "daemon.h"

#include "activation.h"
#include "broker.h"
#include "listener.h"
#include "log.h"
#include "notify.h"
#include "recover.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	STATUS_PERIOD_MS = 5000,
	STOP_PATIENCE_MS = 2000,
	NEWER_PATIENCE_S = 10,
};

/* More threads than one user can hang, see resize.c; set before the pool's first use. */
#define POOL_THREADS "64"

struct process {
	struct broker *broker;
	uv_signal_t terminate, interrupt, hangup;
	uv_timer_t status, watchdog;
	uv_timer_t patience;
	uv_poll_t eof;
	bool watches_eof;
};

/* When all that is to go has gone: then nothing of us is left, or all of it for the next daemon. */
static void let_go(struct broker *broker)
{
	if (broker->leaving) {
		instance_leave(&broker->instance);
	} else {
		manifest_close(&broker->manifest);
		manifest_remove(broker->directory);
		instance_release(&broker->instance);
	}
}

/*
 * A client can make a thread of the pool wait for a lock of its file for ever, and nothing ends
 * that. All that clients could see is gone by now: the next daemon need not wait, too. What is to
 * stay for that one is there, and what is not it removes, so that we need not wait, either.
 */
static void on_out_of_patience(uv_timer_t *timer)
{
	struct process *process = timer->data;

	log_warning("memory is still being given back: letting go of the instance");
	let_go(process->broker);
	if (process->broker->leaving)
		_exit(EXIT_CODE_OK);
}

static void stop(struct process *process, bool keep)
{
	if (process->broker->stopping)
		return;
	log_info("shutting down%s", keep ? ", regions and sessions stay" : "");
	notify_stopping();
	if (keep)
		broker_leave(process->broker);
	else
		broker_stop(process->broker);
	uv_close((uv_handle_t *)&process->terminate, NULL);
	uv_close((uv_handle_t *)&process->interrupt, NULL);
	uv_close((uv_handle_t *)&process->hangup, NULL);
	uv_close((uv_handle_t *)&process->status, NULL);
	uv_close((uv_handle_t *)&process->watchdog, NULL);
	uv_unref((uv_handle_t *)&process->patience);
	uv_timer_start(&process->patience, on_out_of_patience, STOP_PATIENCE_MS, 0);
	if (process->watches_eof)
		uv_close((uv_handle_t *)&process->eof, NULL);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
	struct process *process = handle->data;

	stop(process, options_keeps(&process->broker->options));
}

static void on_reload_signal(uv_signal_t *handle, int number)
{
	struct process *process = handle->data;
	struct settings settings;

	notify_reloading();
	if (settings_load(&process->broker->options, &settings) == 0) {
		broker_apply(process->broker, &settings);
		log_set_level((enum log_level)settings.log_level);
		log_notice("configuration reloaded");
	} else {
		log_error("configuration not reloaded, the old one stays");
	}
	notify_ready(process->broker);
}

static void on_status(uv_timer_t *timer)
{
	notify_status(((struct process *)timer->data)->broker);
}

static void on_eof_event(uv_poll_t *watch, int status, int events)
{
	struct process *process = watch->data;
	char bytes[64];
	ssize_t length = read(process->broker->options.eof_fd, bytes, sizeof(bytes));

	if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR))
		stop(process, false);
}

static int watch_process(struct process *process, uv_loop_t *loop)
{
	int eof_fd = process->broker->options.eof_fd;
	int result = 0;

	uv_signal_init(loop, &process->terminate);
	uv_signal_init(loop, &process->interrupt);
	uv_signal_init(loop, &process->hangup);
	uv_timer_init(loop, &process->status);
	uv_timer_init(loop, &process->patience);
	notify_watchdog_start(loop, &process->watchdog);
	process->patience.data = process;
	process->terminate.data = process->interrupt.data = process->hangup.data = process;
	process->status.data = process->eof.data = process;
	uv_signal_start(&process->terminate, on_stop_signal, SIGTERM);
	uv_signal_start(&process->interrupt, on_stop_signal, SIGINT);
	uv_signal_start(&process->hangup, on_reload_signal, SIGHUP);
	if (getenv("NOTIFY_SOCKET"))
		uv_timer_start(&process->status, on_status, STATUS_PERIOD_MS, STATUS_PERIOD_MS);
	if (eof_fd >= 0) {
		result = uv_poll_init(loop, &process->eof, eof_fd);
		process->watches_eof = result == 0;
		if (result == 0)
			uv_poll_start(&process->eof, UV_READABLE | UV_DISCONNECT, on_eof_event);
		else
			log_error("--exit-on-eof=%d: %s", eof_fd, strerror(-result));
	}
	return result;
}

/* Where things lie; malloc'd, NULL if it cannot be told. */
static char *runtime_directory(const struct options *options)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	char *path = NULL;
	const char *slash;

	if (options->runtime_directory)
		return strdup(options->runtime_directory);
	if (options->scope == SCOPE_SYSTEM)
		return strdup("/run/shmbroker");
	if (options->scope == SCOPE_USER) {
		if (!base)
			log_error("XDG_RUNTIME_DIR is not set: give --runtime-directory");
		else if (asprintf(&path, "%s/shmbroker", base) < 0)
			path = NULL;
		return path;
	}
	slash = options->socket ? strrchr(options->socket, '/') : NULL;
	if (slash)
		return strndup(options->socket, (size_t)(slash - options->socket));
	log_error("--private needs --socket=PATH or --runtime-directory=DIR");
	return NULL;
}

static char *socket_path(const struct options *options, const char *directory)
{
	char *path = NULL;

	if (options->socket)
		return strdup(options->socket);
	if (asprintf(&path, "%s/broker.sock", directory) < 0)
		return NULL;
	return path;
}

static int acquire(struct broker *broker, const char *directory)
{
	mode_t mode = broker->options.scope == SCOPE_SYSTEM ? 0755 : 0700;
	pid_t holder;
	int result = instance_acquire(&broker->instance, directory, mode, &holder);

	if (result == -EEXIST) {
		log_error("another shmbrokerd (pid %d) serves %s", (int)holder, directory);
		return EXIT_CODE_RUNNING;
	}
	if (result < 0) {
		log_error("%s: %s", directory, strerror(-result));
		return EXIT_CODE_FAILURE;
	}
	return EXIT_CODE_OK;
}

static int serve(struct broker *broker, const char *path, const struct activation *activation)
{
	struct process process = { .broker = broker };
	int result = listener_open(broker, path, activation);

	if (result < 0)
		return result == -EEXIST ? EXIT_CODE_RUNNING : EXIT_CODE_FAILURE;
	result = watch_process(&process, &broker->loop);
	if (result < 0) {
		stop(&process, true);
	} else {
		log_info("ready, instance %016llx", (unsigned long long)broker->instance.id);
		notify_ready(broker);
	}
	uv_run(&broker->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&process.patience, NULL);
	uv_run(&broker->loop, UV_RUN_DEFAULT);
	return result < 0 ? EXIT_CODE_FAILURE : EXIT_CODE_OK;
}

/*
 * A service manager keeps the descriptors that it stores for us while it tries us again and again,
 * and would drop them if it gave up. So that this does not fill the log, we are slow.
 */
static void wait_a_while(void)
{
	struct timespec while_ = { .tv_sec = NEWER_PATIENCE_S };

	if (getenv("NOTIFY_SOCKET"))
		nanosleep(&while_, NULL);
}

static int take_over(struct broker *broker, const char *path)
{
	struct activation activation;
	int result = activation_take(&activation);

	if (result < 0) {
		log_error("socket activation: %s", strerror(-result));
		return EXIT_CODE_FAILURE;
	}
	result = recover(broker, broker->directory, &activation);
	free(activation.stored); /* of who could not begin; the service manager has them still */
	if (result == EXIT_CODE_NEWER)
		wait_a_while();
	return result == 0 ? serve(broker, path, &activation) : result;
}

static int run_broker(struct broker *broker, const struct options *options)
{
	char *path = NULL;
	int result = EXIT_CODE_FAILURE;

	broker->directory = runtime_directory(options);
	if (broker->directory)
		path = socket_path(options, broker->directory);
	if (path)
		result = acquire(broker, broker->directory);
	if (path && result == EXIT_CODE_OK)
		result = options->purge ? recover_purge(broker, broker->directory)
					: take_over(broker, path);
	/* Whoever could not begin, or go on, leaves what there is as it is. */
	if (result != EXIT_CODE_OK)
		broker_leave(broker);
	free(path);
	return result;
}

int daemon_run(const struct options *options)
{
	struct settings settings;
	struct broker *broker;
	int result;

	if (settings_load(options, &settings) < 0)
		return EXIT_CODE_CONFIG;
	if (options->check_config)
		return EXIT_CODE_OK;
	log_set_level((enum log_level)settings.log_level);
	signal(SIGPIPE, SIG_IGN);
	/* Who ignores it, or was started by one who does, learns no exit code. */
	signal(SIGCHLD, SIG_DFL);
	signal(SIGXFSZ, SIG_IGN); /* a region beyond RLIMIT_FSIZE is one client's error */
	setenv("UV_THREADPOOL_SIZE", POOL_THREADS, 0);
	broker = malloc(sizeof(*broker));
	result = broker ? broker_init(broker, options, &settings) : -ENOMEM;
	if (result < 0) {
		log_error("cannot start: %s", strerror(-result));
		free(broker);
		return EXIT_CODE_FAILURE;
	}
	result = run_broker(broker, options);
	broker_stop(broker);
	uv_run(&broker->loop, UV_RUN_DEFAULT);
	if (broker->instance.lock_fd >= 0)
		let_go(broker);
	free(broker->directory);
	broker_deinit(broker);
	free(broker);
	return result;
}
