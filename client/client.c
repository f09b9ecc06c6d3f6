/* SPDX-License-Identifier: MIT */
/*
 * The connection: made, greeted, shared by its regions, let go. What travels over it is in calls.c,
 * output.c and receive.c; event loops are in loop.c; what follows when it breaks is in resume.c.
 */

#include "client.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "calls.h"
#include "clock.h"
#include "loop.h"
#include "output.h"
#include "parting.h"
#include "region.h"
#include "resume.h"
#include "sized.h"
#include "wait.h"
#include "watch.h"

#define STRING_(number) #number
#define STRING(number)  STRING_(number)

/* Between tries to connect to a broker that dies before it has answered. */
enum { PAUSE_LEAST_NS = 1000000, PAUSE_MOST_NS = 100000000 };

const char *shmb_version(void)
{
	return STRING(SHMB_VERSION_MAJOR) "." STRING(SHMB_VERSION_MINOR) "." STRING(
		SHMB_VERSION_PATCH);
}

/* ---- References ---- */

struct shmb_client *client_ref(struct shmb_client *client)
{
	atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
	return client;
}

static void close_descriptors(struct shmb_client *client)
{
	loop_close(client);
	if (client->socket >= 0)
		close(client->socket);
	if (client->resume.socket >= 0)
		close(client->resume.socket);
	if (client->files >= 0)
		close(client->files);
	client->socket = client->resume.socket = client->files = -1;
}

static void destroy(struct shmb_client *client)
{
	/* In a forked child another thread of the parent may have been in the middle of changing
	 * these; then their few bytes are left alone. */
	if (!client_forked(client))
		parting(client);
	if (!client_forked(client) || pthread_mutex_trylock(&client->mutex) == 0) {
		calls_clear(client);
		output_clear(client);
		background_free(client);
		wire_decoder_deinit(&client->decoder);
	}
	close_descriptors(client);
	if (!client_forked(client)) {
		error_slot_deinit(&client->error);
		pthread_cond_destroy(&client->cond);
		pthread_mutex_destroy(&client->mutex);
	}
	free(client);
}

void client_unref(struct shmb_client *client)
{
	if (atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) == 1)
		destroy(client);
}

/* ---- Making one ---- */

static int init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;
	int result = pthread_condattr_init(&attributes);

	if (result != 0)
		return SHMB_ENOMEM;
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	result = pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
	return result == 0 ? 0 : SHMB_ENOMEM;
}

static int init_parts(struct shmb_client *client)
{
	if (wire_decoder_init(&client->decoder) < 0)
		return SHMB_ENOMEM;
	if (error_slot_init(&client->error) < 0)
		goto no_slot;
	if (pthread_mutex_init(&client->mutex, NULL) != 0)
		goto no_mutex;
	if (init_cond(&client->cond) < 0)
		goto no_cond;
	return 0;

no_cond:
	pthread_mutex_destroy(&client->mutex);
no_mutex:
	error_slot_deinit(&client->error);
no_slot:
	wire_decoder_deinit(&client->decoder);
	return SHMB_ENOMEM;
}

static int client_new(const struct shmb_client_options *options, struct shmb_client **ret_client)
{
	struct shmb_client *client = calloc(1, sizeof(*client));
	int result;

	if (!client)
		return SHMB_ENOMEM;
	client->socket = client->epoll = client->event = client->timer = client->files = -1;
	client->resume.socket = -1;
	client->resume.away_ms = options->away_ms;
	client->refs = 1;
	client->max_requests = REQUESTS_MAX;
	client->timeout_ms = options->timeout_ms;
	client->wait_limit_ms = INT_MAX;
	client->spin_ns =
		options->spin_us < 0 ? wait_spin_default() : (int64_t)options->spin_us * 1000;
	TAILQ_INIT(&client->output);
	TAILQ_INIT(&client->sent);
	TAILQ_INIT(&client->work);
	LIST_INIT(&client->file_watchers);
	result = fork_generation(&client->generation);
	if (result == 0)
		result = init_parts(client);
	if (result < 0) {
		free(client);
		return result;
	}
	*ret_client = client;
	return 0;
}

static int connect_socket(struct shmb_client *client, const char *path)
{
	int result = packet_socket();

	if (result < 0)
		return error_from_errno(-result);
	client->socket = result;
	result = packet_connect(client->socket, path, client->timeout_ms);
	return result < 0 ? error_from_errno(-result) : 0;
}

static int take_greeting(struct call *call, const void *result)
{
	struct shmb_client *client = call->context;
	int error = resume_check(client, result);

	client->greeted = error == 0;
	return error;
}

static int greet(struct shmb_client *client)
{
	struct wire_hello_params params = resume_hello(client, false);
	struct call *call = call_new(WIRE_HELLO);
	int result;

	if (!call)
		return SHMB_ENOMEM;
	call->take = take_greeting;
	call->context = client;
	result = call_run(client, call, &params);
	if (result < 0)
		return result;
	result = call->error.code;
	call_free(call);
	return result;
}

/*
 * A thread that is about to wait has compared the limit with its own deadline, so it must not be
 * raised under it. Where it is too low (or could not be set) the waiting goes on with poll(2).
 */
static void limit_wait(struct shmb_client *client, int timeout_ms)
{
	pthread_mutex_lock(&client->mutex);
	if (timeout_ms < client->wait_limit_ms &&
	    packet_limit_wait(client->socket, timeout_ms) == 0)
		client->wait_limit_ms = timeout_ms;
	pthread_mutex_unlock(&client->mutex);
}

/* What connecting took is no longer there for the greeting, so that both are within the timeout. */
static int connect_and_greet(struct shmb_client *client, const char *path, const char *name)
{
	int64_t deadline = client_deadline(client);
	int timeout_ms = client->timeout_ms, result = connect_socket(client, path);

	resume_keep(client, path, name);
	if (result < 0)
		return result;
	client->timeout_ms = clock_poll_ms(deadline);
	if (client->timeout_ms == 0)
		return SHMB_ETIMEDOUT;
	result = greet(client);
	client->timeout_ms = timeout_ms;
	limit_wait(client, timeout_ms);
	return result;
}

/* A broker that dies before it has greeted us is followed by another, which knows nothing of us. */
static int connect_once(const struct shmb_client_options *options, const char *path,
			int64_t deadline, struct shmb_client **ret_client)
{
	struct shmb_client *client;
	int result = client_new(options, &client);

	if (result < 0)
		return result;
	client->timeout_ms = clock_poll_ms(deadline);
	result = client->timeout_ms > 0 ? connect_and_greet(client, path, options->name)
					: SHMB_ETIMEDOUT;
	if (result < 0) {
		shmb_client_free(client);
		return result;
	}
	client->timeout_ms = options->timeout_ms;
	*ret_client = client;
	return 0;
}

/* "Nothing of that name" would have people look for a region. */
static int no_broker(int result)
{
	return result == SHMB_ENOENT ? SHMB_ECONNREFUSED : result;
}

int shmb_client_connect(const char *address, const struct shmb_client_options *options,
			struct shmb_client **ret_client)
{
	struct shmb_client_options own = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client;
	char path[RESUME_PATH_BYTES];
	int64_t deadline;
	int result;

	result = sized_read(&own, sizeof(own), options);
	if (result < 0)
		return result;
	if (own.timeout_ms < 1 || own.spin_us < -1 || own.away_ms < -1)
		return SHMB_EINVAL;
	result = address_resolve(address, path, sizeof(path));
	if (result < 0)
		return no_broker(result);
	deadline = clock_now() + (int64_t)own.timeout_ms * 1000000;
	result = connect_once(&own, path, deadline, &client);
	for (int64_t pause = PAUSE_LEAST_NS;
	     result == SHMB_EDISCONNECTED && own.away_ms != 0 && clock_now() + pause < deadline;
	     pause = pause < PAUSE_MOST_NS ? pause * 2 : pause) {
		clock_sleep(pause);
		result = connect_once(&own, path, deadline, &client);
	}
	if (result < 0)
		return no_broker(result);
	*ret_client = client;
	return 0;
}

/* ---- Letting go ---- */

struct shmb_client *shmb_client_free(struct shmb_client *client)
{
	if (!client)
		return NULL;
	if (client_forked(client)) {
		/* Nothing of the parent's session may be touched, nor a mutex that one of its
		 * threads may have held. */
		close_descriptors(client);
		client_unref(client);
		return NULL;
	}
	pthread_mutex_lock(&client->mutex);
	client->freed = true;
	calls_cancel(client);
	watch_end_all(client);
	loop_close(client);
	pthread_mutex_unlock(&client->mutex);
	background_stop(client);
	client_unref(client);
	return NULL;
}

/* ---- Small requests ---- */

int client_check_name(struct shmb_client *client, const char *name)
{
	if (client_forked(client))
		return SHMB_EFORKED;
	if (name && wire_name_check(name, strlen(name), false))
		return 0;
	return error_note(&client->error, SHMB_EINVAL, "name");
}

int client_remove(struct shmb_client *client, const char *name, enum object_kind kind)
{
	struct wire_remove_params params = {
		.has = WIRE_HAS(remove_params, kind),
		.kind = kind,
	};
	int result = client_check_name(client, name);

	if (result < 0)
		return result;
	params.name = wire_string(name);
	return call_ask(client, &client->error, WIRE_REGION_REMOVE, &params, NULL, NULL);
}

int shmb_client_set_timeout(struct shmb_client *client, int timeout_ms)
{
	if (client_forked(client))
		return SHMB_EFORKED;
	if (timeout_ms < 1)
		return error_note(&client->error, SHMB_EINVAL, "timeout_ms");
	atomic_store(&client->timeout_ms, timeout_ms);
	limit_wait(client, timeout_ms);
	return 0;
}

int shmb_client_last_error(struct shmb_client *client, struct shmb_error *ret_error)
{
	if (client_forked(client))
		return SHMB_EFORKED;
	return error_get(&client->error, ret_error);
}

int shmb_client_ping(struct shmb_client *client)
{
	struct wire_empty params = { 0 };

	if (client_forked(client))
		return SHMB_EFORKED;
	return call_ask(client, &client->error, WIRE_PING, &params, NULL, NULL);
}

static int take_stats(struct call *call, const void *result)
{
	memcpy(call->context, result, sizeof(struct wire_stats_result));
	return 0;
}

int shmb_client_stats(struct shmb_client *client, shmb_stats_fn callback, void *userdata)
{
	const struct wire_message_type *type = &wire_message_types[WIRE_MESSAGE_stats_result];
	struct wire_stats_result stats;
	struct wire_empty params = { 0 };
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	result = call_ask(client, &client->error, WIRE_STATS, &params, take_stats, &stats);
	for (size_t i = 0; result == 0 && i < type->n_fields; i++) {
		uint64_t value;

		memcpy(&value, (char *)&stats + type->fields[i].offset, sizeof(value));
		result = callback(type->fields[i].name, value, userdata);
	}
	return result;
}
