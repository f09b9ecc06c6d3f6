/* SPDX-License-Identifier: MIT */
/*
 * What can be asked for in the background, and doing it. Whose threads do it, and when, is
 * background.c's affair; removing needs none, as it is the broker's work.
 */

#include "operation.h"

#include <shmbroker/io.h>

#include "calls.h"
#include "client.h"
#include "loop.h"
#include "touch.h"

static int write_and_flush(const struct operation *operation)
{
	struct shmb_region *region = operation->region;
	int result = shmb_region_write(region, operation->offset, operation->buffer,
				       (size_t)operation->length, 0);

	if (result < 0 || operation->length == 0)
		return result;
	return shmb_region_flush(region, operation->offset, operation->length, 0);
}

static int copy_and_flush(const struct operation *operation)
{
	int result = shmb_region_copy(operation->region, operation->offset, operation->to,
				      operation->to_offset, operation->length);

	if (result < 0 || operation->length == 0)
		return result;
	return shmb_region_flush(operation->to, operation->to_offset, operation->length, 0);
}

int operation_perform(const struct operation *operation)
{
	switch (operation->kind) {
	case OPERATION_WRITE:
		return write_and_flush(operation);
	case OPERATION_COPY:
		return copy_and_flush(operation);
	case OPERATION_FLUSH:
		break;
	}
	return shmb_region_flush(operation->region, operation->offset, operation->length, 0);
}

/* ---- Asking for it ---- */

static int ask(const struct operation *wanted)
{
	int result = background_submit(wanted);

	return result < 0 ? region_refuse(wanted->region, result, "background") : 0;
}

int shmb_region_write_async(struct shmb_region *region, uint64_t offset, const void *buffer,
			    size_t length, shmb_done_fn callback, void *userdata)
{
	const struct operation wanted = {
		.kind = OPERATION_WRITE,
		.region = region,
		.offset = offset,
		.length = length,
		.buffer = buffer,
		.callback = callback,
		.userdata = userdata,
	};
	struct region_place place;
	int result = region_check_write(region, offset, length, &place);

	if (result == 0 && !callback)
		result = region_refuse(region, SHMB_EINVAL, "callback");
	return result < 0 ? result : ask(&wanted);
}

int shmb_region_flush_async(struct shmb_region *region, uint64_t offset, uint64_t length,
			    shmb_done_fn callback, void *userdata)
{
	const struct operation wanted = {
		.kind = OPERATION_FLUSH,
		.region = region,
		.offset = offset,
		.length = length,
		.callback = callback,
		.userdata = userdata,
	};
	struct region_place place;
	int result = region_check(region, REGION_LOST, offset, length, &place);

	if (result == 0 && !callback)
		result = region_refuse(region, SHMB_EINVAL, "callback");
	return result < 0 ? result : ask(&wanted);
}

int shmb_region_copy_async(struct shmb_region *from, uint64_t from_offset, struct shmb_region *to,
			   uint64_t to_offset, uint64_t length, shmb_done_fn callback,
			   void *userdata)
{
	const struct operation wanted = {
		.kind = OPERATION_COPY,
		.region = from,
		.to = to,
		.offset = from_offset,
		.to_offset = to_offset,
		.length = length,
		.callback = callback,
		.userdata = userdata,
	};
	struct region_place place;
	int result = region_check_read(from, from_offset, length, &place);

	if (result == 0)
		result = region_check_write(to, to_offset, length, &place);
	if (result == 0 && !callback)
		result = region_refuse(from, SHMB_EINVAL, "callback");
	return result < 0 ? result : ask(&wanted);
}

/* ---- Removing, which is the broker's work ---- */

static int start_remove(struct shmb_client *client, struct call *call, const char *name)
{
	const struct wire_remove_params params = {
		.has = WIRE_HAS(remove_params, kind),
		.kind = OBJECT_REGION,
		.name = wire_string(name),
	};

	return loop_start_call(client, call, &params);
}

int shmb_region_remove_async(struct shmb_client *client, const char *name, shmb_done_fn callback,
			     void *userdata)
{
	int result = client_check_name(client, name);
	struct call *call;

	if (result < 0)
		return result;
	if (!callback)
		return error_note(&client->error, SHMB_EINVAL, "callback");
	call = call_new(WIRE_REGION_REMOVE);
	if (!call)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	call->done = callback;
	call->userdata = userdata;
	result = start_remove(client, call, name);
	if (result == 0)
		return 0;
	call_free(call);
	return error_note(&client->error, result, NULL);
}
