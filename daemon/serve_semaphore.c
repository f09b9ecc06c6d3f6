/* SPDX-License-Identifier: MIT */
/*
 * The methods of semaphores. Must not touch sockets or uv, nor what is in an arena.
 */
#include "broker.h"
#include "log.h"
#include "peer.h"
#include "arena.h"
#include "serve.h"
#include "session.h"
#include "slots.h"

enum { LIST_ENTRIES_MAX = 32 }; /* on one page; the most that fits into a packet */

int serve_semaphore_again(struct request *request, struct attachment *attachment, bool created)
{
	const struct region *region = attachment->region;
	const struct semaphore *semaphore = region->semaphore;
	const struct wire_semaphore_attached answer = {
		.handle = attachment->handle,
		.id = region->segments.id,
		.kind = semaphore->kind,
		.maximum = semaphore->maximum,
		.arena = semaphore->arena->segments.id,
		.unit = semaphore->unit,
		.slot = attachment->use->member->slot,
		.created = created,
	};

	return request_answer(request, &answer);
}

static int attach(struct request *request, struct region *region, bool created)
{
	struct attachment *attachment;
	int result;

	if (!request->wants_reply)
		return answer_fail(&request->failure, SHMB_EINVAL, "notification");
	result = attachment_new(request->broker, region, request->session, SHMB_LOCK, &attachment,
				&request->failure);
	if (result != 0)
		return result;
	result = semaphore_attach(request->broker, attachment, &request->failure);
	if (result != 0) {
		region_detach(request->broker, attachment, false);
		return result;
	}
	request_done(request, attachment, created);
	return serve_semaphore_again(request, attachment, created);
}

static int attach_existing(struct request *request, struct region *region)
{
	if (!(serve_rights(request, region) & SHMB_LOCK))
		return answer_fail(&request->failure, SHMB_EACCES, "mode");
	return attach(request, region, false);
}

static int check_values(struct request *request, const struct wire_semaphore_create_params *params)
{
	uint64_t most = params->kind == SHMB_OWNED ? LAYOUT_PERMITS_MAX : LAYOUT_SEMAPHORE_MAX;

	if (params->maximum > most)
		return answer_fail_limit(&request->failure, SHMB_EINVAL, "maximum", most);
	if (params->initial > (params->kind == SHMB_OWNED ? 0 : params->maximum))
		return answer_fail(&request->failure, SHMB_EINVAL, "initial");
	return 0;
}

int serve_semaphore_create(struct request *request)
{
	const struct wire_semaphore_create_params *params = request->params;
	struct region_request create = { .kind = OBJECT_SEMAPHORE,
					 .mode = 0700,
					 .lifetime = (unsigned)params->lifetime,
					 .semaphore_kind = (unsigned)params->kind,
					 .initial = (uint32_t)params->initial,
					 .maximum = (uint32_t)params->maximum };
	struct region *region;
	bool created;
	int result = check_values(request, params);

	if (params->has & WIRE_HAS(semaphore_create_params, mode))
		create.mode = (uint32_t)params->mode;
	if (result == 0)
		result = serve_make(request, params->name, params->open_existing, &create, &region,
				    &created);
	if (result != 0)
		return result;
	if (!created)
		return attach_existing(request, region);
	result = attach(request, region, true);
	if (result != 0)
		serve_unmake(request, params->name);
	return result;
}

int serve_semaphore_open(struct request *request)
{
	const struct wire_semaphore_name *params = request->params;
	struct region *region;
	int result = serve_find(request, params->name, OBJECT_SEMAPHORE, &region);

	return result ? result : attach_existing(request, region);
}

int serve_semaphore_arena(struct request *request)
{
	const struct wire_arena_params *params = request->params;
	const struct wire_arena_result answer = { .bytes = LAYOUT_ARENA_BYTES };
	struct member *member = semaphore_member(request->session, params->arena);
	int fd, result;

	if (!member)
		return answer_fail(&request->failure, SHMB_ENOENT, "arena");
	if (!request->wants_reply)
		return answer_fail(&request->failure, SHMB_EINVAL, "notification");
	fd = semaphore_arena_fd(request->broker, member->arena);
	if (fd < 0)
		return answer_fail_system(&request->failure, fd, "opening the semaphores' memory");
	result = peer_answer_fds(request->peer, request->msgid, request->method, &answer, &fd, 1);
	if (result < 0)
		return answer_fail_system(&request->failure, result, "sending descriptors");
	log_end(LOG_TOO_MANY_IN_FLIGHT);
	return 0;
}

/* ---- Looking ---- */

static int describe(struct broker *broker, struct region *region, struct wire_semaphore_info *info)
{
	const struct semaphore *semaphore = region->semaphore;
	const struct session *session;
	struct semaphore_state state;
	int result = semaphore_look(broker, semaphore, &state);

	if (result < 0)
		return result;
	*info = (struct wire_semaphore_info){
		.name = wire_string(region->name),
		.id = region->segments.id,
		.kind = semaphore->kind,
		.uid = region_owner(region),
		.gid = region->gid,
		.mode = region->mode,
		.lifetime = region->lifetime,
		.attachments = region->n_attachments,
		.value = state.value,
		.maximum = semaphore->maximum,
		.waiting = state.waiting,
	};
	if (!state.holder)
		return 0;
	session = state.holder->session;
	info->has |= WIRE_HAS(semaphore_info, holder_pid) | WIRE_HAS(semaphore_info, holder_uid) |
		     WIRE_HAS(semaphore_info, holder_command);
	info->holder_pid = (uint64_t)session->identity.pid;
	info->holder_uid = session->identity.uid;
	info->holder_command = wire_string(session->command);
	return 0;
}

int serve_semaphore_stat(struct request *request)
{
	const struct wire_semaphore_name *params = request->params;
	struct wire_semaphore_info info;
	struct region *region;
	int result = serve_find(request, params->name, OBJECT_SEMAPHORE, &region);

	if (result != 0)
		return result;
	result = describe(request->broker, region, &info);
	if (result < 0)
		return answer_fail_system(&request->failure, result, "looking at a semaphore");
	return request_answer(request, &info);
}

static bool is_semaphore(const struct region *region)
{
	return region->kind == OBJECT_SEMAPHORE;
}

static uint32_t count_slots(const struct region *region)
{
	return slots_highest(region->semaphore->arena->slots);
}

static int add_info(struct request *request, struct region *region, void *userdata, size_t index)
{
	struct wire_semaphore_info *infos = userdata;

	return describe(request->broker, region, &infos[index]);
}

int serve_semaphore_list(struct request *request)
{
	struct wire_semaphore_info infos[LIST_ENTRIES_MAX];
	struct wire_semaphore_list_result answer = { .semaphores = infos };
	struct page page = { .params = request->params,
			     .entries_max = LIST_ENTRIES_MAX,
			     .wanted = is_semaphore,
			     .add = add_info,
			     .n_slots = count_slots,
			     .userdata = infos };
	int result = serve_page(request, &page);

	if (result != 0)
		return result;
	answer.n_semaphores = page.n_entries;
	if (page.more) {
		answer.cursor = wire_string(page.cursor.text);
		answer.has |= WIRE_HAS(semaphore_list_result, cursor);
	}
	return request_answer(request, &answer);
}
