/* SPDX-License-Identifier: MIT */
/*
 * Asking about regions and administering them: thin calls around one request each. Touches no
 * mapping.
 */

#include <string.h>

#include "calls.h"
#include "client.h"
#include "list.h"
#include "sized.h"
#include "touch.h"

/* ---- Describing ---- */

static int copy_info(const struct wire_region_info *from, struct shmb_region_info *to)
{
	/* Without a name it never had one. */
	if (from->name.length > 0 && !wire_name_check(from->name.data, from->name.length, false))
		return SHMB_EPROTO;
	*to = (struct shmb_region_info){
		.struct_size = sizeof(*to),
		.id = from->id,
		.size = from->size,
		.capacity = from->capacity,
		.sequence = from->sequence,
		.created = from->created,
		.uid = (uint32_t)from->uid,
		.gid = (uint32_t)from->gid,
		.mode = (uint32_t)from->mode,
		.attachments = (uint32_t)from->attachments,
		.backing = (enum shmb_backing)from->backing,
		.lifetime = (enum shmb_lifetime)from->lifetime,
		.removed = from->removed,
	};
	memcpy(to->name, from->name.data, from->name.length);
	return 0;
}

static int take_info(struct call *call, const void *result)
{
	return copy_info(result, call->context);
}

static int take_path(struct call *call, const void *result)
{
	const struct wire_region_path_result *from = result;
	struct shmb_region_info *to = call->context;

	if (from->path.length >= sizeof(to->path))
		return SHMB_EPROTO;
	if (from->path.length > 0)
		memcpy(to->path, from->path.data, from->path.length);
	return 0;
}

/* Asks into a copy of our own: the caller's is written on success only, and as long as it is. */
static int ask_info(struct shmb_client *client, struct error_slot *slot,
		    const struct wire_region_ref *params, struct shmb_region_info *ret_info)
{
	struct shmb_region_info info;
	int result;

	if (!ret_info || ret_info->struct_size < offsetof(struct shmb_region_info, id))
		return error_note(slot, SHMB_EINVAL, "struct_size");
	result = call_ask(client, slot, WIRE_REGION_STAT, params, take_info, &info);
	if (result == 0 && info.backing == SHMB_BACKING_FILE &&
	    ret_info->struct_size > offsetof(struct shmb_region_info, path))
		result = call_ask(client, slot, WIRE_REGION_PATH, params, take_path, &info);
	if (result == 0)
		sized_write(ret_info, &info, sizeof(info));
	return result;
}

int shmb_region_stat(struct shmb_client *client, const char *name,
		     struct shmb_region_info *ret_info)
{
	struct wire_region_ref params = { .has = WIRE_HAS(region_ref, name) };
	int result = client_check_name(client, name);

	if (result < 0)
		return result;
	params.name = wire_string(name);
	return ask_info(client, &client->error, &params, ret_info);
}

int shmb_region_info(struct shmb_region *region, struct shmb_region_info *ret_info)
{
	struct wire_region_ref params = {
		.has = WIRE_HAS(region_ref, handle),
		.handle = region->handle,
	};
	int result = region_usable(region);

	if (result < 0)
		return region_refuse(region, result, NULL);
	return ask_info(region->client, &region->error, &params, ret_info);
}

/* ---- Listing ---- */

static int take_page(struct call *call, const void *result)
{
	const struct wire_region_list_result *list = result;
	struct page *page = call->context;
	struct shmb_region_info *infos = page->infos;
	int error = page_take(page, list->n_regions,
			      list->has & WIRE_HAS(region_list_result, cursor), &list->cursor);

	for (size_t i = 0; error == 0 && i < list->n_regions; i++)
		error = copy_info(&list->regions[i], &infos[i]);
	return error;
}

static int tell(const void *info, shmb_any_fn *callback, void *userdata)
{
	return ((shmb_list_fn)callback)(info, userdata);
}

int shmb_region_list(struct shmb_client *client, const char *prefix, shmb_list_fn callback,
		     void *userdata)
{
	static const struct list_kind kind = {
		.method = WIRE_REGION_LIST,
		.info_size = sizeof(struct shmb_region_info),
		.take = take_page,
		.tell = tell,
	};

	return list_walk(client, &kind, prefix, (shmb_any_fn *)callback, userdata);
}

/* ---- Changing ---- */

int shmb_region_resize(struct shmb_region *region, uint64_t size)
{
	struct wire_region_resize_params params = { .handle = region->handle, .size = size };
	struct region_place place;
	int result = region_check(region, REGION_LOST, 0, 0, &place);

	if (result < 0)
		return result;
	if (!region_is_public(region))
		return region_refuse(region, SHMB_EMODE, "resize");
	if (size == 0 || size > INT64_MAX)
		return region_refuse(region, size == 0 ? SHMB_EINVAL : SHMB_EFBIG, "size");
	if (size > region->capacity && region->backing != SHMB_BACKING_FILE)
		return region_grow(region, size);
	result = call_ask(region->client, &region->error, WIRE_REGION_RESIZE, &params, NULL, NULL);
	/* So that what the handle says of itself is true at once. */
	if (result == 0 && region_has_moved(region))
		result = region_follow(region);
	return result;
}

int shmb_region_remove(struct shmb_client *client, const char *name)
{
	return client_remove(client, name, OBJECT_REGION);
}

int shmb_region_chmod(struct shmb_client *client, const char *name, uint32_t mode)
{
	struct wire_region_chmod_params params = { .mode = mode };
	int result = client_check_name(client, name);

	if (result < 0)
		return result;
	if (mode > 0777)
		return error_note(&client->error, SHMB_EINVAL, "mode");
	params.name = wire_string(name);
	return call_ask(client, &client->error, WIRE_REGION_CHMOD, &params, NULL, NULL);
}

int shmb_region_chown(struct shmb_client *client, const char *name, uint32_t uid, uint32_t gid)
{
	struct wire_region_chown_params params = { .uid = uid, .gid = gid };
	int result = client_check_name(client, name);

	if (result < 0)
		return result;
	params.name = wire_string(name);
	if (uid != UINT32_MAX)
		params.has |= WIRE_HAS(region_chown_params, uid);
	if (gid != UINT32_MAX)
		params.has |= WIRE_HAS(region_chown_params, gid);
	return call_ask(client, &client->error, WIRE_REGION_CHOWN, &params, NULL, NULL);
}
