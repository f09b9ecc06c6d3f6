/* SPDX-License-Identifier: MIT */
/*
 * Regions asked for: made, opened, or made of a file. What options say is checked here; what comes
 * back is made into a handle by region.c. Touches no mapping.
 */

#include "make.h"

#include <stdlib.h>
#include <string.h>

#include <shmbroker/io.h>

#include "calls.h"
#include "client.h"
#include "file.h"
#include "how.h"
#include "loop.h"
#include "region.h"
#include "sized.h"

enum {
	ACCESS_ALL = SHMB_READ | SHMB_WRITE | SHMB_LOCK,
	MODE_ALL = 0777,
};

/* ---- Asking for one ---- */

int request_refuse(struct shmb_client *client, const char *what)
{
	return error_note(&client->error, SHMB_EINVAL, what);
}

static int check_name(struct shmb_client *client, const char *name)
{
	if (!name || !wire_name_check(name, strlen(name), false))
		return request_refuse(client, "name");
	return 0;
}

/* @access: what the handle is to be good for */
static int check_common(struct shmb_client *client, unsigned access, struct request *request)
{
	const struct shmb_region_options *options = &request->options;
	int result;

	if (!(access & (SHMB_READ | SHMB_WRITE)) || access & ~(unsigned)ACCESS_ALL)
		return request_refuse(client, "access");
	result = how_check(client, access, options);
	request->access = access;
	request->options.access = how_asked(access, options->flags);
	return result;
}

static int refuse_size(struct shmb_client *client, uint64_t size)
{
	struct shmb_error error = { .code = SHMB_EFBIG, .length = size, .limit = INT64_MAX };

	return error_set(&client->error, &error);
}

static int check_create(struct shmb_client *client, uint64_t size,
			const struct shmb_region_options *options)
{
	bool file = options->backing == SHMB_BACKING_FILE;
	const char *what = NULL;
	int result;

	if (size == 0 && !file)
		return request_refuse(client, "size");
	if (options->capacity != 0 && (file ? options->capacity != size : options->capacity < size))
		return request_refuse(client, "capacity");
	if (size > INT64_MAX || options->capacity > INT64_MAX)
		return refuse_size(client, size > options->capacity ? size : options->capacity);
	if (options->mode & ~(uint32_t)MODE_ALL)
		return request_refuse(client, "mode");
	if ((unsigned)options->backing > SHMB_BACKING_HUGETLB)
		return request_refuse(client, "backing");
	if ((unsigned)options->lifetime > SHMB_PERSISTENT)
		return request_refuse(client, "lifetime");
	if (options->slots > LAYOUT_LOCK_SLOTS_MAX)
		return request_refuse(client, "slots");
	if (options->flags & SHMB_RESERVE && !(options->access & SHMB_WRITE))
		return error_note(&client->error, SHMB_EMODE, "reserve");
	result = file_check(options, &what);
	return result < 0 ? error_note(&client->error, result, what) : 0;
}

int request_new_call(struct shmb_client *client, enum wire_method_id method, const char *name,
		     struct request *request)
{
	struct call *call = call_new_attach(method, name);

	if (!call)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	call->attach->access = request->access;
	call->attach->flags = request->options.flags;
	call->attach->huge = request->options.huge;
	call->attach->address = request->options.address;
	request->call = call;
	return 0;
}

static void fill_create(struct request *request, const char *name, uint64_t size,
			bool open_existing)
{
	const struct shmb_region_options *options = &request->options;
	struct wire_region_create_params *params = &request->params.create;

	*params = (struct wire_region_create_params){
		.has = WIRE_HAS(region_create_params, mode) |
		       WIRE_HAS(region_create_params, access) |
		       WIRE_HAS(region_create_params, backing) |
		       WIRE_HAS(region_create_params, lifetime) |
		       WIRE_HAS(region_create_params, open_existing),
		.name = wire_string(name),
		.size = size,
		.capacity = options->capacity,
		.mode = options->mode,
		.access = options->access,
		.backing = options->backing,
		.lifetime = options->lifetime,
		.open_existing = open_existing,
		.slots = options->slots,
	};
	if (options->capacity != 0)
		params->has |= WIRE_HAS(region_create_params, capacity);
	if (options->slots != 0)
		params->has |= WIRE_HAS(region_create_params, slots);
}

static int read_options(struct shmb_client *client, const struct shmb_region_options *options,
			struct request *request)
{
	*request = (struct request){ .options = SHMB_REGION_OPTIONS_INIT };
	if (sized_read(&request->options, sizeof(request->options), options) < 0)
		return request_refuse(client, "options");
	return 0;
}

/* Nobody could find it again if it outlived its attachments. */
static int check_anonymous(struct shmb_client *client, const struct request *request)
{
	return request->options.lifetime == SHMB_ATTACHED ? 0 : request_refuse(client, "lifetime");
}

/* What can be wrong before anybody is asked. @name: NULL for none. */
static int check_request(struct shmb_client *client, const char *name, uint64_t size,
			 const struct shmb_region_options *options, struct request *request)
{
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	result = read_options(client, options, request);
	if (result == 0 && name)
		result = check_name(client, name);
	if (result == 0)
		result = check_common(client, request->options.access, request);
	if (result == 0)
		result = check_create(client, size, &request->options);
	return result < 0 || name ? result : check_anonymous(client, request);
}

static int prepare_create(struct shmb_client *client, const char *name, uint64_t size,
			  bool open_existing, struct request *request)
{
	int result = request_new_call(client, WIRE_REGION_CREATE, name, request);

	if (result < 0)
		return result;
	request->call->attach->size = size;
	request->options.capacity = how_capacity(&request->options, size);
	fill_create(request, name, size, open_existing);
	return 0;
}

/* Of huge pages of the pool, and what is asked for if there are none. */
static int prepare_pool(struct shmb_client *client, const char *name, uint64_t size,
			bool open_existing, struct request *request)
{
	struct request *instead = malloc(sizeof(*instead));
	int result;

	if (!instead)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	*instead = *request;
	request->options.backing = SHMB_BACKING_HUGETLB;
	result = prepare_create(client, name, size, open_existing, request);
	if (result < 0)
		free(instead);
	else
		request->call->attach->instead = instead;
	return result;
}

/* Create only, of whatever backing. */
static int prepare(struct shmb_client *client, const char *name, uint64_t size,
		   const struct shmb_region_options *options, struct request *request)
{
	int result = check_request(client, name, size, options, request);
	bool taken = false;

	if (!name)
		name = "";
	if (result < 0)
		return result;
	if (how_pool_first(&request->options))
		return prepare_pool(client, name, size, false, request);
	if (request->options.backing != SHMB_BACKING_FILE)
		return prepare_create(client, name, size, false, request);
	result = adopt_prepare(client, name, size, request, &taken);
	return taken ? error_note(&client->error, SHMB_EEXIST, NULL) : result;
}

int request_options(struct shmb_client *client, const struct shmb_region_options *options,
		    unsigned access, struct request *request)
{
	int result = read_options(client, options, request);

	if (result == 0)
		result = check_common(client, access, request);
	return result;
}

int request_open(struct shmb_client *client, const char *name, struct request *request)
{
	int result;

	request->options.flags &= HOW_FLAGS;
	result = request_new_call(client, WIRE_REGION_OPEN, name, request);
	if (result < 0)
		return result;
	request->params.open = (struct wire_region_open_params){
		.name = wire_string(name),
		.access = request->options.access,
	};
	return 0;
}

static int prepare_open(struct shmb_client *client, const char *name, unsigned access,
			const struct shmb_region_options *options, struct request *request)
{
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	result = check_name(client, name);
	if (result == 0)
		result = request_options(client, options, access, request);
	return result < 0 ? result : request_open(client, name, request);
}

/* The slot of one that asked for the lock. Return: @created, or an error, and it is undone. */
static int attach_lock(struct shmb_region *region, int created)
{
	struct shmb_client *client = region->client;
	int result = locker_attach(&region->locker, client, region->handle, &client->error);

	if (result == 0)
		return created;
	/* As region_attach(). */
	region->flags = 0;
	if (created && region->name[0] != '\0') {
		pthread_mutex_lock(&client->mutex);
		call_remove(client, region->name, OBJECT_REGION);
		pthread_mutex_unlock(&client->mutex);
	}
	shmb_region_free(region);
	return result;
}

/* As call_answer(), but what is expected is no failure. */
static int answer(struct shmb_client *client, struct request *request, int expected)
{
	struct error_slot slot;
	int result = error_slot_init(&slot);

	if (result < 0) {
		call_free(request->call);
		return error_note(&client->error, result, NULL);
	}
	result = call_answer(client, &slot, request->call, &request->params);
	if (result < 0 && result != expected)
		error_set(&client->error, &slot.last);
	error_slot_deinit(&slot);
	return result;
}

int request_run(struct shmb_client *client, struct request *request, int expected,
		struct shmb_region **ret_region)
{
	struct call *call = request->call;
	struct shmb_region *region = NULL;
	int result = answer(client, request, expected);

	if (result < 0)
		return result;
	result = region_attach(client, call, &region);
	if (region && call->attach->access & SHMB_LOCK)
		result = attach_lock(region, result);
	call_free(call);
	if (result >= 0)
		*ret_region = region;
	return result;
}

/* The same, and if that fails for want of huge pages, what is asked for instead. */
static int run_any(struct shmb_client *client, struct request *request, bool open_existing,
		   struct shmb_region **ret_region)
{
	struct request *instead = request->call->attach->instead;
	struct shmb_error before = { .struct_size = sizeof(before) };
	char name[SHMB_NAME_MAX + 1];
	uint64_t size = request->call->attach->size;
	int result;

	memcpy(name, request->call->attach->name, sizeof(name));
	request->call->attach->instead = NULL;
	error_get(&client->error, &before);
	result = request_run(client, request, 0, ret_region);
	if (instead && how_without_pool(result)) {
		error_set(&client->error, &before); /* nothing has failed yet */
		result = prepare_create(client, name, size, open_existing, instead);
		if (result == 0)
			result = request_run(client, instead, 0, ret_region);
	}
	free(instead);
	return result;
}

static int start(struct shmb_client *client, struct request *request, shmb_region_fn callback,
		 void *userdata)
{
	struct call *call = request->call;
	int result;

	call->callback = callback;
	call->userdata = userdata;
	result = loop_start_call(client, call, &request->params);
	if (result < 0) {
		call_free(call);
		error_note(&client->error, result, NULL);
	}
	return result;
}

bool make_again(struct shmb_client *client, const struct call *call)
{
	/* One that is answered late needs its attachment until then. */
	struct request *request = call->attach ? call->attach->instead : NULL;

	return request && how_without_pool(call->error.code) &&
	       prepare_create(client, call->attach->name, call->attach->size, false, request) ==
		       0 &&
	       start(client, request, call->callback, call->userdata) == 0;
}

int shmb_region_create(struct shmb_client *client, const char *name, uint64_t size,
		       const struct shmb_region_options *options, struct shmb_region **ret_region)
{
	struct request request;
	int result = prepare(client, name, size, options, &request);

	if (result == 0)
		result = run_any(client, &request, false, ret_region);
	return result < 0 ? result : 0;
}

int shmb_region_open_or_create(struct shmb_client *client, const char *name, uint64_t size,
			       const struct shmb_region_options *options,
			       struct shmb_region **ret_region)
{
	struct request request;
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	result = check_name(client, name);
	if (result == 0)
		result = check_request(client, name, size, options, &request);
	if (result < 0)
		return result;
	if (request.options.backing == SHMB_BACKING_FILE)
		return adopt_or_open(client, name, size, &request, ret_region);
	result = how_pool_first(&request.options)
			 ? prepare_pool(client, name, size, true, &request)
			 : prepare_create(client, name, size, true, &request);
	return result < 0 ? result : run_any(client, &request, true, ret_region);
}

int shmb_region_open(struct shmb_client *client, const char *name, unsigned access,
		     const struct shmb_region_options *options, struct shmb_region **ret_region)
{
	struct request request;
	int result = prepare_open(client, name, access, options, &request);

	if (result == 0)
		result = request_run(client, &request, 0, ret_region);
	return result < 0 ? result : 0;
}

int shmb_region_create_async(struct shmb_client *client, const char *name, uint64_t size,
			     const struct shmb_region_options *options, shmb_region_fn callback,
			     void *userdata)
{
	struct request request;
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	if (!callback)
		return request_refuse(client, "callback");
	result = prepare(client, name, size, options, &request);
	return result < 0 ? result : start(client, &request, callback, userdata);
}

int shmb_region_open_async(struct shmb_client *client, const char *name, unsigned access,
			   const struct shmb_region_options *options, shmb_region_fn callback,
			   void *userdata)
{
	struct request request;
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	if (!callback)
		return request_refuse(client, "callback");
	result = prepare_open(client, name, access, options, &request);
	return result < 0 ? result : start(client, &request, callback, userdata);
}
