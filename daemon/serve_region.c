/* SPDX-License-Identifier: MIT */
/*
 * The methods of regions: policy first, then the region table. Must not touch sockets or uv.
 */
#include "broker.h"
#include "layout/lock.h"
#include "layout/publish.h"
#include "log.h"
#include "peer.h"
#include "policy.h"
#include "remember.h"
#include "resize.h"
#include "serve.h"
#include "session.h"
#include "ticket.h"
#include "watch.h"

#include <errno.h>

enum { LIST_ENTRIES_MAX = 64 }; /* on one page; the most that fits into a packet */

static int find_writable(struct request *request, uint64_t handle,
			 struct attachment **ret_attachment)
{
	int result = serve_find_region(request, handle, ret_attachment);

	if (result == 0 && !((*ret_attachment)->access & SHMB_WRITE))
		return answer_fail(&request->failure, SHMB_EMODE, "access");
	return result;
}

static int answer_attached(struct request *request, const struct attachment *attachment,
			   bool created, int fds[SEGMENT_MAPPED])
{
	const struct region *region = attachment->region;
	const struct wire_region_attached answer = {
		.handle = attachment->handle,
		.id = region->segments.id,
		.size = region->size,
		.capacity = region->capacity,
		.access = attachment->access,
		.backing = region->segments.data->number,
		.created = created,
		.generation = region->segments.generation,
		.has = WIRE_HAS(region_attached, generation),
	};
	int result = peer_answer_fds(request->peer, request->msgid, request->method, &answer, fds,
				     SEGMENT_MAPPED);

	region_release_fds(attachment->access, fds);
	if (result == 0)
		log_end(LOG_TOO_MANY_IN_FLIGHT);
	return result;
}

int serve_attach(struct request *request, struct region *region, unsigned access, bool created,
		 struct ticket *used)
{
	struct broker *broker = request->broker;
	struct attachment *attachment;
	int fds[SEGMENT_MAPPED];
	struct ticket ticket;
	int result;

	if (access & SHMB_WRITE)
		access |= SHMB_LOCK;
	result = request->wants_reply ? region_attach(broker, region, request->session, access,
						      &attachment, fds, &request->failure)
				      : answer_fail(&request->failure, SHMB_EINVAL, "notification");
	if (result != 0) {
		if (created) /* one without a name nobody would find again */
			region_unlink(broker, region);
		return result;
	}
	if (used) {
		ticket = *used;
		ticket_end(broker, used);
	}
	request_done(request, attachment, created);
	result = answer_attached(request, attachment, created, fds);
	if (result == 0)
		return 0;
	region_detach(broker, attachment, false);
	if (used)
		ticket_restore(broker, &ticket);
	return answer_fail_system(&request->failure, result, "sending descriptors");
}

int serve_region_again(struct request *request, struct attachment *attachment, bool created)
{
	int fds[SEGMENT_MAPPED];
	int result = region_reopen_fds(request->broker, attachment, fds);

	if (result < 0)
		return answer_fail_system(&request->failure, result, "opening the region's memory");
	result = answer_attached(request, attachment, created, fds);
	return result < 0 ? answer_fail_system(&request->failure, result, "sending descriptors")
			  : 0;
}

static int check_access(struct request *request, const struct region *region, unsigned access)
{
	if (!(access & SHMB_READ))
		return answer_fail(&request->failure, SHMB_EINVAL, "access");
	if (region && region->read_only && access & SHMB_WRITE)
		return answer_fail(&request->failure, SHMB_EACCES, "file opened read-only");
	if (region && access & ~serve_rights(request, region))
		return answer_fail(&request->failure, SHMB_EACCES, "mode");
	return 0;
}

static struct region_request wanted(const struct wire_region_create_params *params)
{
	struct region_request wanted = {
		.kind = OBJECT_REGION,
		.size = params->size,
		.capacity = params->size,
		.mode = 0700,
		.n_slots = LAYOUT_LOCK_SLOTS_DEFAULT,
		.lifetime = (unsigned)params->lifetime,
		.backing = (unsigned)params->backing,
	};

	if (params->has & WIRE_HAS(region_create_params, capacity))
		wanted.capacity = params->capacity;
	if (params->has & WIRE_HAS(region_create_params, mode))
		wanted.mode = (uint32_t)params->mode;
	if (params->has & WIRE_HAS(region_create_params, slots))
		wanted.n_slots = (uint32_t)params->slots;
	return wanted;
}

int serve_region_create(struct request *request)
{
	const struct wire_region_create_params *params = request->params;
	struct region_request create = wanted(params);
	unsigned access = SHMB_READ | SHMB_WRITE;
	struct region *region;
	bool created;
	int result;

	if (params->has & WIRE_HAS(region_create_params, access))
		access = (unsigned)params->access;
	result = check_access(request, NULL, access);
	if (result == 0)
		result = serve_make(request, params->name, params->open_existing, &create, &region,
				    &created);
	if (result == 0 && !created)
		result = check_access(request, region, access);
	if (result != 0)
		return result;
	result = serve_attach(request, region, access, created, NULL);
	if (result != 0 && created)
		serve_unmake(request, params->name);
	return result;
}

int serve_region_open(struct request *request)
{
	const struct wire_region_open_params *params = request->params;
	struct region *region;
	unsigned access = (unsigned)params->access;
	int result = serve_find(request, params->name, OBJECT_REGION, &region);

	if (result == 0)
		result = check_access(request, region, access);
	return result ? result : serve_attach(request, region, access, false, NULL);
}

int serve_region_close(struct request *request)
{
	const struct wire_region_handle *params = request->params;
	struct attachment *attachment;
	int result = serve_find_attachment(request, params->handle, &attachment);

	if (result != 0)
		return result;
	if (remember_reserve(request->broker, false) ==
	    0) /* else it is done again, which does nothing */
		request_done(request, NULL, false);
	region_detach(request->broker, attachment, false);
	slots_undo_some(request->broker);
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
		.backing = region->segments.data->number,
		.lifetime = region->lifetime,
		.removed = region->removed,
	};
}

/* By name, or one the caller is attached to. */
static int find_referred(struct request *request, struct region **ret_region)
{
	const struct wire_region_ref *params = request->params;
	bool by_name = params->has & WIRE_HAS(region_ref, name);
	bool by_handle = params->has & WIRE_HAS(region_ref, handle);
	struct attachment *attachment;
	int result;

	if (by_name == by_handle)
		return answer_fail(&request->failure, SHMB_EINVAL, "handle");
	if (by_name)
		return serve_find(request, params->name, OBJECT_REGION, ret_region);
	result = serve_find_region(request, params->handle, &attachment);
	if (result == 0)
		*ret_region = attachment->region;
	return result;
}

int serve_region_stat(struct request *request)
{
	struct wire_region_info info;
	struct region *region;
	int result = find_referred(request, &region);

	if (result != 0)
		return result;
	describe(request->broker, region, &info);
	return request_answer(request, &info);
}

int serve_region_path(struct request *request)
{
	struct wire_region_path_result answer = { 0 };
	struct region *region;
	int result = find_referred(request, &region);

	if (result != 0)
		return result;
	if (region->path) {
		answer.path = wire_string(region->path);
		answer.has |= WIRE_HAS(region_path_result, path);
	}
	return request_answer(request, &answer);
}

static bool is_region(const struct region *region)
{
	return region->kind == OBJECT_REGION;
}

static int add_info(struct request *request, struct region *region, void *userdata, size_t index)
{
	struct wire_region_info *infos = userdata;

	describe(request->broker, region, &infos[index]);
	return 0;
}

int serve_region_list(struct request *request)
{
	struct wire_region_info infos[LIST_ENTRIES_MAX];
	struct wire_region_list_result answer = { .regions = infos };
	struct page page = { .params = request->params,
			     .entries_max = LIST_ENTRIES_MAX,
			     .wanted = is_region,
			     .add = add_info,
			     .userdata = infos };
	int result = serve_page(request, &page);

	if (result != 0)
		return result;
	answer.n_regions = page.n_entries;
	if (page.more) {
		answer.cursor = wire_string(page.cursor.text);
		answer.has |= WIRE_HAS(region_list_result, cursor);
	}
	return request_answer(request, &answer);
}

int serve_region_resize(struct request *request)
{
	const struct wire_region_resize_params *params = request->params;
	struct attachment *attachment;
	int result = find_writable(request, params->handle, &attachment);

	if (result != 0)
		return result;
	if (request->repeated &&
	    resize_repeat(attachment->region, request->session, request->msgid))
		return 0; /* it will be answered */
	return resize_start(request->broker, attachment->region, request->session, params->size,
			    request->msgid, request->wants_reply, &request->failure);
}

static int done_and_told(struct request *request, struct region *region)
{
	int result;

	request_done(request, NULL, false);
	result = request_answer(request, &(struct wire_empty){ 0 });
	region_notify(request->broker, region);
	return result;
}

int serve_region_chmod(struct request *request)
{
	const struct wire_region_chmod_params *params = request->params;
	struct region *region;
	int result = serve_find_owned(request, params->name, OBJECT_REGION, &region);

	if (result != 0)
		return result;
	if (params->mode != region->mode)
		region_count(region, SHMB_EVENT_METADATA);
	region->mode = (uint16_t)params->mode;
	remember_object(request->broker, region);
	return done_and_told(request, region);
}

int serve_region_chown(struct request *request)
{
	const struct wire_region_chown_params *params = request->params;
	struct region *region;
	uid_t uid;
	gid_t gid;
	int result = serve_find_owned(request, params->name, OBJECT_REGION, &region);

	if (result != 0)
		return result;
	uid = params->has & WIRE_HAS(region_chown_params, uid) ? (uid_t)params->uid
							       : region_owner(region);
	gid = params->has & WIRE_HAS(region_chown_params, gid) ? (gid_t)params->gid : region->gid;
	if (!policy_may_chown(&request->session->identity, region_owner(region), region->gid, uid,
			      gid))
		return answer_fail(&request->failure, SHMB_EACCES, "owner");
	result = region_chown(request->broker, region, uid, gid, &request->failure);
	return result != 0 ? result : done_and_told(request, region);
}

int serve_region_remove(struct request *request)
{
	const struct wire_remove_params *params = request->params;
	enum object_kind kind = OBJECT_REGION;
	struct region *region;
	int result;

	if (params->has & WIRE_HAS(remove_params, kind))
		kind = (enum object_kind)params->kind;
	result = serve_find_owned(request, params->name, kind, &region);
	if (result != 0)
		return result;
	request_done(request, NULL, false); /* with it, not after it */
	region_unlink(request->broker, region);
	return request_answer(request, &(struct wire_empty){ 0 });
}

int serve_region_watch(struct request *request)
{
	const struct wire_region_watch_params *params = request->params;
	struct wire_region_watch_result answer = {
		.has = WIRE_HAS(region_watch_result, metadata) |
		       WIRE_HAS(region_watch_result, deaths),
	};
	struct attachment *attachment;
	int result = serve_find_region(request, params->handle, &attachment);

	if (result != 0)
		return result;
	result = watch_set(request->broker, attachment, params, &request->failure);
	if (result != 0)
		return result;
	answer.metadata = attachment->region->metadata;
	answer.deaths = attachment->region->deaths;
	request_answer(request, &answer);
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
