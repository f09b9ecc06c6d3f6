/* SPDX-License-Identifier: MIT */
/*
 * What serving any kind of object takes: finding it if the caller may know of it, making it, lists.
 * Must not touch sockets or uv.
 */
#include "serve.h"

#include "broker.h"
#include "policy.h"
#include "remember.h"
#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LIST_VISITS_MAX = 1024, /* objects looked at for one page, visible or not */
	SLOTS_PER_PAGE = 2048,
};

bool serve_copy_name(struct wire_bytes bytes, bool prefix, struct name *ret_name)
{
	if (bytes.length > SHMB_NAME_MAX || !wire_name_check(bytes.data, bytes.length, prefix))
		return false;
	if (bytes.length)
		memcpy(ret_name->text, bytes.data, bytes.length);
	ret_name->text[bytes.length] = '\0';
	return true;
}

unsigned serve_rights(const struct request *request, const struct region *region)
{
	unsigned rights = policy_rights(&request->session->identity, region_owner(region),
					region->gid, region->mode);

	return region->read_only ? rights & ~(unsigned)SHMB_WRITE : rights;
}

bool serve_visible(const struct request *request, const struct region *region)
{
	return policy_visible(&request->session->identity, region_owner(region), region->gid,
			      region->mode);
}

int serve_find(struct request *request, struct wire_bytes bytes, enum object_kind kind,
	       struct region **ret_region)
{
	struct region *region;
	struct name name;

	if (!serve_copy_name(bytes, false, &name))
		return answer_fail(&request->failure, SHMB_EINVAL, "name");
	region = region_find(&request->broker->regions, name.text);
	if (!region || !serve_visible(request, region))
		return answer_fail(&request->failure, SHMB_ENOENT, NULL);
	if (kind && region->kind != kind)
		return answer_fail(&request->failure, SHMB_EKIND, NULL);
	*ret_region = region;
	return 0;
}

int serve_find_owned(struct request *request, struct wire_bytes bytes, enum object_kind kind,
		     struct region **ret_region)
{
	struct region *region;
	int result = serve_find(request, bytes, kind, &region);

	if (result != 0)
		return result;
	if (!policy_owns(&request->session->identity, region_owner(region)))
		return answer_fail(&request->failure, SHMB_EACCES, "owner");
	*ret_region = region;
	return 0;
}

int serve_find_attachment(struct request *request, uint64_t handle,
			  struct attachment **ret_attachment)
{
	struct attachment *attachment = session_attachment(request->session, handle);

	if (!attachment)
		return answer_fail(&request->failure, SHMB_ENOENT, "handle");
	*ret_attachment = attachment;
	return 0;
}

int serve_find_region(struct request *request, uint64_t handle, struct attachment **ret_attachment)
{
	int result = serve_find_attachment(request, handle, ret_attachment);

	if (result == 0 && (*ret_attachment)->region->kind != OBJECT_REGION)
		return answer_fail(&request->failure, SHMB_EKIND, "handle");
	return result;
}

/* ---- Making ---- */

static int create_new(struct request *request, const struct region_request *create,
		      struct region **ret_region)
{
	if (!policy_may_create(&request->session->identity, create->name))
		return answer_fail(&request->failure, SHMB_EACCES, "name");
	return region_create(request->broker, request->session, create, ret_region,
			     &request->failure);
}

int serve_make(struct request *request, struct wire_bytes bytes, bool open_existing,
	       struct region_request *create, struct region **ret_region, bool *ret_created)
{
	struct region *region;
	struct name name = { "" };

	if (bytes.length == 0) { /* anonymous, where the table allows it */
		create->name = name.text;
		*ret_created = true;
		return create_new(request, create, ret_region);
	}
	if (!serve_copy_name(bytes, false, &name))
		return answer_fail(&request->failure, SHMB_EINVAL, "name");
	region = region_find(&request->broker->regions, name.text);
	*ret_created = !region;
	if (!region) {
		create->name = name.text;
		return create_new(request, create, ret_region);
	}
	if (!open_existing)
		return answer_fail(&request->failure, SHMB_EEXIST, NULL);
	if (!serve_visible(request, region))
		return answer_fail(&request->failure, SHMB_EACCES, "mode");
	if (region->kind != create->kind)
		return answer_fail(&request->failure, SHMB_EKIND, NULL);
	*ret_region = region;
	return 0;
}

/* Undoing an attachment has taken an object of lifetime "attached" with it already. */
void serve_unmake(struct request *request, struct wire_bytes bytes)
{
	struct region *region;
	struct name name;

	if (!serve_copy_name(bytes, false, &name))
		return;
	region = region_find(&request->broker->regions, name.text);
	if (region)
		region_unlink(request->broker, region);
}

/* ---- Once more ---- */

static const enum object_kind attaches_to[WIRE_METHOD_COUNT] = {
	[WIRE_REGION_CREATE] = OBJECT_REGION,       [WIRE_REGION_OPEN] = OBJECT_REGION,
	[WIRE_REGION_ADOPT] = OBJECT_REGION,        [WIRE_REGION_REDEEM] = OBJECT_REGION,
	[WIRE_LOCK_CREATE] = OBJECT_LOCK,           [WIRE_LOCK_OPEN] = OBJECT_LOCK,
	[WIRE_SEMAPHORE_CREATE] = OBJECT_SEMAPHORE, [WIRE_SEMAPHORE_OPEN] = OBJECT_SEMAPHORE,
};

static int attached_again(struct request *request, struct attachment *attachment, bool created)
{
	switch (attachment->region->kind) {
	case OBJECT_LOCK:
		return serve_lock_again(request, attachment, created);
	case OBJECT_SEMAPHORE:
		return serve_semaphore_again(request, attachment, created);
	default:
		return serve_region_again(request, attachment, created);
	}
}

/* As if it had failed the first time; but what is another's by now is not removed. */
static void unmake(struct request *request, struct attachment *attachment, bool created)
{
	struct region *region = attachment->region;

	if (created && !region->removed &&
	    policy_owns(&request->session->identity, region_owner(region)))
		region_unlink(request->broker, region);
	region_detach(request->broker, attachment, false);
	slots_undo_some(request->broker);
}

int serve_again(struct request *request)
{
	const struct done *done = session_find_done(request->session, request->msgid);
	enum object_kind kind = attaches_to[request->method];
	struct attachment *attachment;
	int result;

	if (!done)
		return SERVE_NOT_DONE;
	if (!kind) {
		/* The number may be used again for something else. */
		if (wire_methods[request->method].result != &wire_message_types[WIRE_MESSAGE_empty])
			return SERVE_NOT_DONE;
		return request_answer(request, &(struct wire_empty){ 0 });
	}
	attachment = session_attachment(request->session, done->handle);
	if (!attachment || attachment->region->kind != kind)
		return SERVE_NOT_DONE;
	result = attached_again(request, attachment, done->created);
	if (result != 0)
		unmake(request, attachment, done->created);
	return result;
}

/* ---- Lists ---- */

/*
 * A page ends with the last name on it as the cursor. One that shows nothing cannot: the name it
 * came to is not the caller's to know, so the session keeps it and the cursor is its number.
 */
static int keep_position(struct request *request, const struct region *region,
			 struct name *ret_cursor)
{
	struct session *session = request->session;
	// NOLINTNEXTLINE(clang-analyzer-core.NullDereference) a page ends behind a region
	char *position = strdup(region->name);

	if (!position)
		return answer_fail_system(&request->failure, ENOMEM, "listing");
	free(session->list_position);
	session->list_position = position;
	snprintf(ret_cursor->text, sizeof(ret_cursor->text), "=%" PRIu32, ++session->list_serial);
	remember_position(request->broker, session);
	return 0;
}

static int take_position(struct request *request, struct wire_bytes cursor, struct name *ret_after)
{
	struct session *session = request->session;
	char expected[16];

	if (cursor.length == 0 || cursor.data[0] != '=') {
		if (!serve_copy_name(cursor, false, ret_after))
			return answer_fail(&request->failure, SHMB_EINVAL, "cursor");
		return 0;
	}
	snprintf(expected, sizeof(expected), "=%" PRIu32, session->list_serial);
	if (!session->list_position || cursor.length != strlen(expected) ||
	    memcmp(cursor.data, expected, cursor.length) != 0)
		return answer_fail(&request->failure, SHMB_EBUSY, "cursor");
	strcpy(ret_after->text, session->list_position);
	return 0;
}

static int begin_page(struct request *request, struct page *page, struct name *ret_prefix,
		      struct region **ret_first)
{
	const struct wire_region_list_params *params = page->params;
	bool goes_on = params->has & WIRE_HAS(region_list_params, cursor);
	struct name after;
	int result = 0;

	if (!serve_copy_name(params->prefix, true, ret_prefix))
		return answer_fail(&request->failure, SHMB_EINVAL, "prefix");
	if (goes_on)
		result = take_position(request, params->cursor, &after);
	if (result != 0)
		return result;
	goes_on = goes_on && strcmp(after.text, ret_prefix->text) >= 0;
	*ret_first = region_next_from(&request->broker->regions,
				      goes_on ? after.text : ret_prefix->text, goes_on);
	return 0;
}

/* One that cannot be looked at is left out: whoever removed its memory shall not end the list. */
static void add_entry(struct request *request, struct page *page, struct region *region)
{
	if (!page->wanted(region) || !serve_visible(request, region) ||
	    page->add(request, region, page->userdata, page->n_entries) < 0)
		return;
	page->n_entries++;
	if (page->n_slots)
		page->slots_seen += page->n_slots(region);
	strcpy(page->cursor.text, region->name);
}

int serve_page(struct request *request, struct page *page)
{
	const struct wire_region_list_params *params = page->params;
	size_t limit = page->entries_max;
	struct region *region, *last = NULL;
	struct name prefix;
	unsigned visits = 0;
	int result = begin_page(request, page, &prefix, &region);

	if (result != 0)
		return result;
	if (params->has & WIRE_HAS(region_list_params, limit) && params->limit < limit)
		limit = params->limit;
	for (; region && page->n_entries < limit && page->slots_seen < SLOTS_PER_PAGE;
	     region = region_next(region)) {
		if (strncmp(region->name, prefix.text, params->prefix.length) != 0)
			region = NULL;
		if (!region || visits++ == LIST_VISITS_MAX)
			break;
		add_entry(request, page, region);
		last = region;
	}
	page->more = region;
	if (region && page->n_entries == 0)
		return keep_position(request, last, &page->cursor);
	return 0;
}
