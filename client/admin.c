/* SPDX-License-Identifier: MIT */
/*
 * Asking about regions and administering them: thin calls around one request each. Touches no
 * mapping.
 */

#include "client.h"

#include <stdlib.h>
#include <string.h>

#include "sized.h"

enum { LIST_PAGE = 64, CURSOR_MAX = 200 };

/* ---- Describing ---- */

static int copy_info(const struct wire_region_info *from, struct shmb_region_info *to)
{
	if (!wire_name_check(from->name.data, from->name.length, false))
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

/* Asks into a copy of our own: the caller's is written on success only, and as long as it is. */
static int ask_info(struct shmb_client *client, struct error_slot *slot,
		    const struct wire_region_ref *params, struct shmb_region_info *ret_info)
{
	struct shmb_region_info info;
	int result;

	if (!ret_info || ret_info->struct_size < offsetof(struct shmb_region_info, id))
		return error_note(slot, SHMB_EINVAL, "struct_size");
	result = call_ask(client, slot, WIRE_REGION_STAT, params, take_info, &info);
	if (result == 0)
		sized_write(ret_info, &info, sizeof(info));
	return result;
}

/* Before anything is asked about a name. */
static int check_name(struct shmb_client *client, const char *name)
{
	if (client_forked(client))
		return SHMB_EFORKED;
	if (name && wire_name_check(name, strlen(name), false))
		return 0;
	return error_note(&client->error, SHMB_EINVAL, "name");
}

int shmb_region_stat(struct shmb_client *client, const char *name,
		     struct shmb_region_info *ret_info)
{
	struct wire_region_ref params = { .has = WIRE_HAS(region_ref, name) };
	int result = check_name(client, name);

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

struct page {
	size_t n_regions;
	size_t cursor_length; /* 0: the last page */
	char cursor[CURSOR_MAX];
	struct shmb_region_info regions[LIST_PAGE];
};

static int take_page(struct call *call, const void *result)
{
	const struct wire_region_list_result *list = result;
	struct page *page = call->context;
	bool more = list->has & WIRE_HAS(region_list_result, cursor);

	if (list->n_regions > LIST_PAGE || list->cursor.length > CURSOR_MAX)
		return SHMB_EPROTO;
	/* The same cursor again would never end. */
	if (more && page->cursor_length == list->cursor.length &&
	    memcmp(page->cursor, list->cursor.data, list->cursor.length) == 0)
		return SHMB_EPROTO;
	for (size_t i = 0; i < list->n_regions; i++) {
		int error = copy_info(&list->regions[i], &page->regions[i]);

		if (error < 0)
			return error;
	}
	page->n_regions = list->n_regions;
	page->cursor_length = more ? list->cursor.length : 0;
	if (more)
		memcpy(page->cursor, list->cursor.data, list->cursor.length);
	return 0;
}

static int next_page(struct shmb_client *client, const char *prefix, struct page *page)
{
	struct wire_region_list_params params = { .has = 0 };
	/* The parameters point into it, and the answer is written over it. */
	char cursor[CURSOR_MAX];

	if (client_forked(client)) /* by the callback */
		return SHMB_EFORKED;
	if (prefix[0]) {
		params.has |= WIRE_HAS(region_list_params, prefix);
		params.prefix = wire_string(prefix);
	}
	if (page->cursor_length > 0) {
		memcpy(cursor, page->cursor, page->cursor_length);
		params.has |= WIRE_HAS(region_list_params, cursor);
		params.cursor = (struct wire_bytes){ cursor, page->cursor_length };
	}
	return call_ask(client, &client->error, WIRE_REGION_LIST, &params, take_page, page);
}

static int walk(struct shmb_client *client, const char *prefix, struct page *page,
		shmb_list_fn callback, void *userdata)
{
	int result;

	do {
		result = next_page(client, prefix, page);
		for (size_t i = 0; result == 0 && i < page->n_regions; i++)
			result = callback(&page->regions[i], userdata);
	} while (result == 0 && page->cursor_length > 0);
	return result;
}

int shmb_region_list(struct shmb_client *client, const char *prefix, shmb_list_fn callback,
		     void *userdata)
{
	struct page *page;
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	if (!prefix)
		prefix = "";
	if (prefix[0] && !wire_name_check(prefix, strlen(prefix), true))
		return error_note(&client->error, SHMB_EINVAL, "prefix");
	if (!callback)
		return error_note(&client->error, SHMB_EINVAL, "callback");
	page = calloc(1, sizeof(*page));
	if (!page)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	result = walk(client, prefix, page, callback, userdata);
	free(page);
	return result;
}

/* ---- Changing ---- */

static int refuse_resize(struct shmb_region *region, uint64_t size)
{
	struct shmb_error error = {
		.code = SHMB_EFBIG,
		.length = size,
		.size = region_bytes(region),
		.limit = region->capacity,
		.what = "capacity",
	};

	return error_set(&region->error, &error);
}

int shmb_region_resize(struct shmb_region *region, uint64_t size)
{
	struct wire_region_resize_params params = { .handle = region->handle, .size = size };
	int result = region_usable(region);

	if (result < 0)
		return region_refuse(region, result, NULL);
	if (!(region->access & SHMB_WRITE))
		return region_refuse(region, SHMB_EMODE, "resize");
	if (size == 0)
		return region_refuse(region, SHMB_EINVAL, "size");
	if (size > region->capacity)
		return refuse_resize(region, size);
	return call_ask(region->client, &region->error, WIRE_REGION_RESIZE, &params, NULL, NULL);
}

int shmb_region_remove(struct shmb_client *client, const char *name)
{
	struct wire_remove_params params = { .has = 0 };
	int result = check_name(client, name);

	if (result < 0)
		return result;
	params.name = wire_string(name);
	return call_ask(client, &client->error, WIRE_REGION_REMOVE, &params, NULL, NULL);
}

int shmb_region_chmod(struct shmb_client *client, const char *name, uint32_t mode)
{
	struct wire_region_chmod_params params = { .mode = mode };
	int result = check_name(client, name);

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
	int result = check_name(client, name);

	if (result < 0)
		return result;
	params.name = wire_string(name);
	if (uid != UINT32_MAX)
		params.has |= WIRE_HAS(region_chown_params, uid);
	if (gid != UINT32_MAX)
		params.has |= WIRE_HAS(region_chown_params, gid);
	return call_ask(client, &client->error, WIRE_REGION_CHOWN, &params, NULL, NULL);
}
