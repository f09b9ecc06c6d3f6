/* SPDX-License-Identifier: MIT */
/*
 * Regions made of files: in which order the broker and the file system are asked, so that no file
 * is emptied whose region is there already, and of those that race for a name one gets it. Files
 * themselves are file.c's.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"
#include "client.h"
#include "file.h"
#include "make.h"
#include "output.h"
#include "region.h"

enum { RACES_MAX = 100 }; /* lost by the same program; then the name is not what it seems */

/* ---- What the broker says ---- */

static int take_begin(struct call *call, const void *result)
{
	struct shmb_client *client = call->context;

	(void)result;
	client->may_pass = true; /* over the next connection, too */
	return 0;
}

/* Descriptors that nobody has asked to pass are refused, or cost the connection. */
static int begin(struct shmb_client *client)
{
	const struct wire_empty params = { 0 };
	bool may_pass;

	pthread_mutex_lock(&client->mutex);
	may_pass = client->may_pass;
	pthread_mutex_unlock(&client->mutex);
	if (may_pass)
		return 0;
	return call_ask(client, &client->error, WIRE_ADOPT_BEGIN, &params, take_begin, client);
}

/* Return: 1 (it is), 0, or an error, which the client keeps. */
static int is_taken(struct shmb_client *client, const char *name)
{
	const struct wire_region_ref params = {
		.has = WIRE_HAS(region_ref, name),
		.name = wire_string(name),
	};
	struct error_slot slot;
	int result;

	if (*name == '\0')
		return 0;
	result = error_slot_init(&slot);
	if (result < 0)
		return error_note(&client->error, result, NULL);
	result = call_ask(client, &slot, WIRE_REGION_STAT, &params, NULL, NULL);
	if (result < 0 && result != SHMB_ENOENT && result != SHMB_EKIND)
		error_set(&client->error, &slot.last);
	error_slot_deinit(&slot);
	if (result == SHMB_ENOENT)
		return 0;
	return result == 0 || result == SHMB_EKIND ? 1 : result;
}

/* ---- The file ---- */

/* Nobody else of those who would empty it, too, can make the region between look and deed. */
static int empty(struct shmb_client *client, const char *name, struct file *file, bool *ret_taken)
{
	int result = file_claim(file, client_deadline(client));

	if (result < 0)
		return error_note(&client->error, result, "file");
	result = is_taken(client, name);
	if (result != 0) {
		*ret_taken = result > 0;
		return result > 0 ? SHMB_EEXIST : result;
	}
	result = file_empty(file);
	return result < 0 ? error_note(&client->error, result, "file") : 0;
}

static int pass(struct shmb_client *client, struct file *file, uint64_t *size,
		struct passed **ret_passed)
{
	int result = file_extend(file, *size, size);

	if (result == SHMB_EINVAL)
		return error_note(&client->error, result, "size");
	if (result == 0 && *size > INT64_MAX)
		result = SHMB_EFBIG;
	if (result == 0)
		result = file_pass(file, ret_passed);
	return result < 0 ? error_note(&client->error, result, "file") : 0;
}

/*
 * Before there is a region: whoever flushes it does not know what the file is called, and that this
 * may not be on the disk yet. Also if it was there: who made it may have died before this.
 */
static int keep_name(struct shmb_client *client, const struct file *file)
{
	int result = file_keep_name(file);

	return result < 0 ? error_note(&client->error, result, "file") : 0;
}

static int open_file(struct shmb_client *client, const char *name,
		     const struct shmb_region_options *options, uint64_t *size,
		     struct passed **ret_passed, bool *ret_taken)
{
	struct file file;
	int result = file_open(options, &file);

	if (result < 0)
		return error_note(&client->error, result, "file");
	if (options->file_flags & SHMB_FILE_TRUNCATE)
		result = empty(client, name, &file, ret_taken);
	if (result == 0 && options->file_flags & SHMB_FILE_CREATE)
		result = keep_name(client, &file);
	if (result == 0)
		result = pass(client, &file, size, ret_passed);
	file_close(&file);
	return result;
}

/* ---- The request ---- */

/* Where others find it; nothing if that is too long to tell. */
static void tell_path(struct request *request)
{
	struct wire_region_adopt_params *params = &request->params.adopt;
	const char *path = request->options.path;
	char directory[REQUEST_PATH_BYTES];
	int length;

	if (!path)
		return;
	if (path[0] != '/' && getcwd(directory, sizeof(directory)))
		length = snprintf(request->path, sizeof(request->path), "%s/%s", directory, path);
	else
		length = snprintf(request->path, sizeof(request->path), "%s", path);
	if (length <= 0 || (size_t)length >= sizeof(request->path))
		return;
	params->has |= WIRE_HAS(region_adopt_params, path);
	params->path = wire_string(request->path);
}

static void fill(struct request *request, const char *name, uint64_t size)
{
	const struct shmb_region_options *options = &request->options;
	struct wire_region_adopt_params *params = &request->params.adopt;

	*params = (struct wire_region_adopt_params){
		.has = WIRE_HAS(region_adopt_params, mode) | WIRE_HAS(region_adopt_params, access) |
		       WIRE_HAS(region_adopt_params, lifetime),
		.name = wire_string(name),
		.size = size,
		.mode = options->mode,
		.access = options->access,
		.lifetime = options->lifetime,
		.slots = options->slots,
	};
	if (options->slots != 0)
		params->has |= WIRE_HAS(region_adopt_params, slots);
	tell_path(request);
}

/* Takes over the descriptors, whatever happens. */
static int make_call(struct shmb_client *client, const char *name, struct passed *passed,
		     struct request *request)
{
	const char *path = request->options.path;
	int result = request_new_call(client, WIRE_REGION_ADOPT, name, request);

	if (result < 0) {
		passed_free(passed);
		return result;
	}
	request->call->passed = passed;
	if (!path)
		return 0;
	request->call->attach->path = strdup(path);
	if (request->call->attach->path)
		return 0;
	call_free(request->call);
	return error_note(&client->error, SHMB_ENOMEM, NULL);
}

int adopt_prepare(struct shmb_client *client, const char *name, uint64_t size,
		  struct request *request, bool *ret_taken)
{
	const struct shmb_region_options *options = &request->options;
	struct passed *passed = NULL;
	int result;

	*ret_taken = false;
	result = begin(client);
	if (result < 0)
		return result;
	/* Before a file is made for it. */
	if (options->file_flags & (SHMB_FILE_CREATE | SHMB_FILE_TRUNCATE)) {
		result = is_taken(client, name);
		*ret_taken = result > 0;
		if (result != 0)
			return result > 0 ? SHMB_EEXIST : result;
	}
	result = open_file(client, name, options, &size, &passed, ret_taken);
	if (result == 0)
		result = make_call(client, name, passed, request);
	if (result < 0)
		return result;
	request->call->attach->size = size;
	fill(request, name, size);
	return 0;
}

/* Return: as request_run(); *ret_again: the name was taken meanwhile, or has just been given up. */
static int race(struct shmb_client *client, const char *name, uint64_t size,
		const struct request *request, struct shmb_region **ret_region, bool *ret_again)
{
	struct request attempt = *request;
	int result = request_open(client, name, &attempt);

	*ret_again = false;
	if (result == 0)
		result = request_run(client, &attempt, SHMB_ENOENT, ret_region);
	if (result != SHMB_ENOENT)
		return result;
	attempt = *request;
	result = adopt_prepare(client, name, size, &attempt, ret_again);
	if (result < 0)
		return result;
	result = request_run(client, &attempt, SHMB_EEXIST, ret_region);
	*ret_again = result == SHMB_EEXIST;
	return result;
}

int adopt_or_open(struct shmb_client *client, const char *name, uint64_t size,
		  const struct request *request, struct shmb_region **ret_region)
{
	bool again = false;
	int result;

	for (unsigned i = 0; i < RACES_MAX; i++) {
		result = race(client, name, size, request, ret_region, &again);
		if (!again)
			return result;
	}
	return error_note(&client->error, SHMB_EEXIST, "name");
}
