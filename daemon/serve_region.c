/* SPDX-License-Identifier: MIT */
/*
 * The methods of regions: policy first, then the region table. Must not touch sockets or uv.
 */
#include "broker.h"
#include "dispatch.h"
#include "layout/publish.h"
#include "log.h"
#include "peer.h"
#include "policy.h"
#include "resize.h"
#include "session.h"
#include "watch.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LIST_ENTRIES_MAX = 64,  /* on one page; the most that fits into a packet */
	LIST_VISITS_MAX = 1024, /* regions looked at for one page, visible or not */
};

struct name {
	char text[SHMB_NAME_MAX + 1];
};

static bool copy_text(struct wire_bytes bytes, bool prefix, struct name *ret_name)
{
	if (bytes.length > SHMB_NAME_MAX || !wire_name_check(bytes.data, bytes.length, prefix))
		return false;
	if (bytes.length)
		memcpy(ret_name->text, bytes.data, bytes.length);
	ret_name->text[bytes.length] = '\0';
	return true;
}

static unsigned rights(const struct request *request, const struct region *region)
{
	return policy_rights(&request->session->identity, region_owner(region), region->gid,
			     region->mode);
}

static bool visible(const struct request *request, const struct region *region)
{
	return policy_visible(&request->session->identity, region_owner(region), region->gid,
			      region->mode);
}

/* A region that the caller may know of. */
static int find(struct request *request, struct wire_bytes bytes, struct region **ret_region)
{
	struct region *region;
	struct name name;

	if (!copy_text(bytes, false, &name))
		return answer_fail(&request->failure, SHMB_EINVAL, "name");
	region = region_find(&request->broker->regions, name.text);
	if (!region || !visible(request, region))
		return answer_fail(&request->failure, SHMB_ENOENT, NULL);
	*ret_region = region;
	return 0;
}

static int find_owned(struct request *request, struct wire_bytes bytes, struct region **ret_region)
{
	struct region *region;
	int result = find(request, bytes, &region);

	if (result != 0)
		return result;
	if (!policy_owns(&request->session->identity, region_owner(region)))
		return answer_fail(&request->failure, SHMB_EACCES, "owner");
	*ret_region = region;
	return 0;
}

static int find_attachment(struct request *request, uint64_t handle,
			   struct attachment **ret_attachment)
{
	struct attachment *attachment = session_attachment(request->session, handle);

	if (!attachment)
		return answer_fail(&request->failure, SHMB_ENOENT, "handle");
	*ret_attachment = attachment;
	return 0;
}

static int find_writable(struct request *request, uint64_t handle,
			 struct attachment **ret_attachment)
{
	int result = find_attachment(request, handle, ret_attachment);

	if (result == 0 && !((*ret_attachment)->access & SHMB_WRITE))
		return answer_fail(&request->failure, SHMB_EMODE, "access");
	return result;
}

/* Attach and answer with the descriptors; if they cannot be sent the attachment is undone. */
static int attach(struct request *request, struct region *region, unsigned access, bool created)
{
	struct broker *broker = request->broker;
	struct attachment *attachment;
	struct wire_region_attached answer;
	int fds[SEGMENT_COUNT];
	int result;

	if (!request->wants_reply)
		return answer_fail(&request->failure, SHMB_EINVAL, "notification");
	if (access & SHMB_WRITE)
		access |= SHMB_LOCK;
	result = region_attach(broker, region, request->session, access, &attachment, fds,
			       &request->failure);
	if (result != 0)
		return result;
	answer = (struct wire_region_attached){
		.handle = attachment->handle,
		.id = region->segments.id,
		.size = region->size,
		.capacity = region->capacity,
		.access = access,
		.backing = region_backing_number(region),
		.created = created,
	};
	result = peer_answer_fds(request->peer, request->msgid, request->method, &answer, fds,
				 SEGMENT_COUNT);
	region_release_fds(access, fds);
	if (result == 0) {
		log_end(LOG_TOO_MANY_IN_FLIGHT);
		return 0;
	}
	region_detach(broker, attachment, false);
	return answer_fail_system(&request->failure, result, "sending descriptors");
}

static int open_existing(struct request *request, struct region *region, unsigned access)
{
	if (!(access & SHMB_READ))
		return answer_fail(&request->failure, SHMB_EINVAL, "access");
	if (access & ~rights(request, region))
		return answer_fail(&request->failure, SHMB_EACCES, "mode");
	return attach(request, region, access, false);
}

static int create_new(struct request *request, const char *name, unsigned access)
{
	const struct wire_region_create_params *params = request->params;
	struct region_request wanted = {
		.name = name,
		.size = params->size,
		.capacity = params->size,
		.mode = 0700,
		.lifetime = (unsigned)params->lifetime,
		.backing = (unsigned)params->backing,
	};
	struct region *region;
	int result;

	if (params->has & WIRE_HAS(region_create_params, capacity))
		wanted.capacity = params->capacity;
	if (params->has & WIRE_HAS(region_create_params, mode))
		wanted.mode = (uint32_t)params->mode;
	if (!policy_may_create(&request->session->identity, name))
		return answer_fail(&request->failure, SHMB_EACCES, "name");
	if (!(access & SHMB_READ))
		return answer_fail(&request->failure, SHMB_EINVAL, "access");
	result = region_create(request->broker, request->session, &wanted, &region,
			       &request->failure);
	if (result != 0)
		return result;
	result = attach(request, region, access, true);
	/* Undone by hand, unless undoing the attachment has taken an "attached" region with it. */
	if (result != 0 && region_find(&request->broker->regions, name))
		region_unlink(request->broker, region);
	return result;
}

int serve_region_create(struct request *request)
{
	const struct wire_region_create_params *params = request->params;
	unsigned access = SHMB_READ | SHMB_WRITE;
	struct region *region;
	struct name name;

	if (params->has & WIRE_HAS(region_create_params, access))
		access = (unsigned)params->access;
	if (!copy_text(params->name, false, &name))
		return answer_fail(&request->failure, SHMB_EINVAL, "name");
	region = region_find(&request->broker->regions, name.text);
	if (!region)
		return create_new(request, name.text, access);
	if (!params->open_existing)
		return answer_fail(&request->failure, SHMB_EEXIST, NULL);
	if (!visible(request, region))
		return answer_fail(&request->failure, SHMB_EACCES, "mode");
	return open_existing(request, region, access);
}

int serve_region_open(struct request *request)
{
	const struct wire_region_open_params *params = request->params;
	struct region *region;
	int result = find(request, params->name, &region);

	return result ? result : open_existing(request, region, (unsigned)params->access);
}

int serve_region_close(struct request *request)
{
	const struct wire_region_handle *params = request->params;
	struct attachment *attachment;
	int result = find_attachment(request, params->handle, &attachment);

	if (result != 0)
		return result;
	region_detach(request->broker, attachment, false);
	return request_answer(request, &(struct wire_empty){ 0 });
}

static void describe(struct broker *broker, struct region *region, struct wire_region_info *info)
{
	*info = (struct wire_region_info){
		.name = wire_string(region->name),
		.id = region->segments.id,
		.size = region->size,
		.capacity = region->capacity,
		.sequence = region_sequence(broker, region),
		.created = (uint64_t)region->created,
		.uid = region_owner(region),
		.gid = region->gid,
		.mode = region->mode,
		.attachments = region->n_attachments,
		.backing = region_backing_number(region),
		.lifetime = region->lifetime,
		.removed = region->removed,
	};
}

int serve_region_stat(struct request *request)
{
	const struct wire_region_ref *params = request->params;
	bool by_name = params->has & WIRE_HAS(region_ref, name);
	bool by_handle = params->has & WIRE_HAS(region_ref, handle);
	struct attachment *attachment;
	struct wire_region_info info;
	struct region *region;
	int result;

	if (by_name == by_handle)
		return answer_fail(&request->failure, SHMB_EINVAL, "handle");
	if (by_name) {
		result = find(request, params->name, &region);
	} else {
		result = find_attachment(request, params->handle, &attachment);
		if (result == 0)
			region = attachment->region;
	}
	if (result != 0)
		return result;
	describe(request->broker, region, &info);
	return request_answer(request, &info);
}

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
	return 0;
}

static int take_position(struct request *request, struct wire_bytes cursor, struct name *ret_after)
{
	struct session *session = request->session;
	char expected[16];

	if (cursor.length == 0 || cursor.data[0] != '=') {
		if (!copy_text(cursor, false, ret_after))
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

int serve_region_list(struct request *request)
{
	const struct wire_region_list_params *params = request->params;
	bool goes_on = params->has & WIRE_HAS(region_list_params, cursor);
	struct wire_region_info infos[LIST_ENTRIES_MAX];
	struct wire_region_list_result answer = { .regions = infos };
	size_t limit = LIST_ENTRIES_MAX;
	struct region *region, *last = NULL;
	struct name prefix, after;
	unsigned visits = 0;
	int result = 0;

	if (!copy_text(params->prefix, true, &prefix))
		return answer_fail(&request->failure, SHMB_EINVAL, "prefix");
	if (goes_on)
		result = take_position(request, params->cursor, &after);
	if (result != 0)
		return result;
	if (params->has & WIRE_HAS(region_list_params, limit))
		limit = params->limit;
	goes_on = goes_on && strcmp(after.text, prefix.text) >= 0;
	region = region_next_from(&request->broker->regions, goes_on ? after.text : prefix.text,
				  goes_on);
	for (; region && answer.n_regions < limit; region = region_next(region)) {
		if (strncmp(region->name, prefix.text, params->prefix.length) != 0)
			region = NULL;
		if (!region || visits++ == LIST_VISITS_MAX)
			break;
		if (visible(request, region))
			describe(request->broker, region, &infos[answer.n_regions++]);
		last = region;
	}
	if (region) {
		if (answer.n_regions > 0)
			answer.cursor = infos[answer.n_regions - 1].name;
		else if ((result = keep_position(request, last, &after)) == 0)
			answer.cursor = wire_string(after.text);
		answer.has |= WIRE_HAS(region_list_result, cursor);
	}
	return result ? result : request_answer(request, &answer);
}

int serve_region_resize(struct request *request)
{
	const struct wire_region_resize_params *params = request->params;
	struct attachment *attachment;
	int result = find_writable(request, params->handle, &attachment);

	if (result != 0)
		return result;
	return resize_start(request->broker, attachment->region, request->session, params->size,
			    request->msgid, request->wants_reply, &request->failure);
}

int serve_region_chmod(struct request *request)
{
	const struct wire_region_chmod_params *params = request->params;
	struct region *region;
	int result = find_owned(request, params->name, &region);

	if (result != 0)
		return result;
	region->mode = (uint16_t)params->mode;
	return request_answer(request, &(struct wire_empty){ 0 });
}

int serve_region_chown(struct request *request)
{
	const struct wire_region_chown_params *params = request->params;
	struct region *region;
	uid_t uid;
	gid_t gid;
	int result = find_owned(request, params->name, &region);

	if (result != 0)
		return result;
	uid = params->has & WIRE_HAS(region_chown_params, uid) ? (uid_t)params->uid
							       : region_owner(region);
	gid = params->has & WIRE_HAS(region_chown_params, gid) ? (gid_t)params->gid : region->gid;
	if (!policy_may_chown(&request->session->identity, region_owner(region), region->gid, uid,
			      gid))
		return answer_fail(&request->failure, SHMB_EACCES, "owner");
	result = region_chown(request->broker, region, uid, gid, &request->failure);
	return result ? result : request_answer(request, &(struct wire_empty){ 0 });
}

int serve_region_remove(struct request *request)
{
	const struct wire_remove_params *params = request->params;
	struct region *region;
	int result = find_owned(request, params->name, &region);

	if (result != 0)
		return result;
	region_unlink(request->broker, region);
	return request_answer(request, &(struct wire_empty){ 0 });
}

int serve_region_watch(struct request *request)
{
	const struct wire_region_watch_params *params = request->params;
	struct attachment *attachment;
	int result = find_attachment(request, params->handle, &attachment);

	if (result != 0)
		return result;
	result = watch_set(request->broker, attachment, (unsigned)params->types, params->sequence,
			   params->size, &request->failure);
	if (result != 0)
		return result;
	request_answer(request, &(struct wire_empty){ 0 });
	region_notify(request->broker, attachment->region); /* it may have happened already */
	return 0;
}

int serve_region_published(struct request *request)
{
	const struct wire_region_handle *params = request->params;
	struct attachment *attachment;
	int result = find_writable(request, params->handle, &attachment);

	if (result != 0)
		return result;
	region_notify(request->broker, attachment->region);
	return request_answer(request, &(struct wire_empty){ 0 });
}
