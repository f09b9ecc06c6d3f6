/* SPDX-License-Identifier: MIT */
/*
 * The methods of locks, a region's and named ones, and who holds what of any object. Must not touch
 * sockets or uv, nor the words of a lock.
 */
#include "broker.h"
#include "layout/lock.h"
#include "lock.h"
#include "log.h"
#include "peer.h"
#include "remember.h"
#include "serve.h"
#include "session.h"

#include <stdlib.h>

enum {
	LIST_ENTRIES_MAX = 32, /* on one page; the most that fits into a packet */
	HOLDERS_MAX = 64,
};

/* ---- Attaching ---- */

static int send_segment(struct request *request, const void *answer, int fd)
{
	int result =
		peer_answer_fds(request->peer, request->msgid, request->method, answer, &fd, 1);

	if (result == 0)
		log_end(LOG_TOO_MANY_IN_FLIGHT);
	return result == 0 ? 0
			   : answer_fail_system(&request->failure, result, "sending descriptors");
}

/* Who has a slot already is told again: it may have had no descriptor free for the first answer, or
 * no patience. */
static int slot_again(struct request *request, struct attachment *attachment, int *ret_fd)
{
	*ret_fd = lock_fd(request->broker, attachment);
	return *ret_fd < 0
		       ? answer_fail_system(&request->failure, *ret_fd, "opening the lock's memory")
		       : 0;
}

int serve_region_lock(struct request *request)
{
	const struct wire_region_handle *params = request->params;
	struct wire_region_lock_result answer;
	struct attachment *attachment;
	int fd, result = serve_find_attachment(request, params->handle, &attachment);
	bool again;

	if (result != 0)
		return result;
	if (attachment->region->kind != OBJECT_REGION)
		return answer_fail(&request->failure, SHMB_EKIND, "handle");
	if (!request->wants_reply)
		return answer_fail(&request->failure, SHMB_EINVAL, "notification");
	if (!(attachment->access & SHMB_LOCK))
		return answer_fail(&request->failure, SHMB_EMODE, "access");
	again = attachment->slot;
	result = again ? slot_again(request, attachment, &fd)
		       : lock_attach(request->broker, attachment, &fd, &request->failure);
	if (result != 0)
		return result;
	answer = (struct wire_region_lock_result){ .slot = attachment->slot,
						   .slots = attachment->region->n_slots };
	result = send_segment(request, &answer, fd);
	if (result != 0 && !again) {
		lock_detach(request->broker, attachment);
		remember_attachment(request->broker, attachment); /* its slot may be another's */
		slots_undo_some(request->broker);
	}
	return result;
}

static int answer_attached(struct request *request, const struct attachment *attachment,
			   bool created, int fd)
{
	const struct wire_lock_attached answer = { .handle = attachment->handle,
						   .id = attachment->region->segments.id,
						   .slot = attachment->slot,
						   .slots = attachment->region->n_slots,
						   .created = created };

	return send_segment(request, &answer, fd);
}

int serve_lock_again(struct request *request, struct attachment *attachment, bool created)
{
	int fd, result = slot_again(request, attachment, &fd);

	return result ? result : answer_attached(request, attachment, created, fd);
}

static int attach(struct request *request, struct region *region, bool created)
{
	struct broker *broker = request->broker;
	struct attachment *attachment;
	int fd, result;

	if (!request->wants_reply)
		return answer_fail(&request->failure, SHMB_EINVAL, "notification");
	result = attachment_new(broker, region, request->session, SHMB_LOCK, &attachment,
				&request->failure);
	if (result != 0)
		return result;
	result = lock_attach(broker, attachment, &fd, &request->failure);
	if (result == 0) {
		request_done(request, attachment, created);
		result = answer_attached(request, attachment, created, fd);
	}
	if (result != 0) {
		region_detach(broker, attachment, false);
		slots_undo_some(broker);
	}
	return result;
}

static int attach_existing(struct request *request, struct region *region)
{
	if (!(serve_rights(request, region) & SHMB_LOCK))
		return answer_fail(&request->failure, SHMB_EACCES, "mode");
	return attach(request, region, false);
}

int serve_lock_create(struct request *request)
{
	const struct wire_lock_create_params *params = request->params;
	struct region_request create = { .kind = OBJECT_LOCK,
					 .mode = 0700,
					 .lifetime = (unsigned)params->lifetime,
					 .n_slots = LAYOUT_LOCK_SLOTS_DEFAULT };
	struct region *region;
	bool created;
	int result;

	if (params->has & WIRE_HAS(lock_create_params, mode))
		create.mode = (uint32_t)params->mode;
	if (params->has & WIRE_HAS(lock_create_params, slots))
		create.n_slots = (uint32_t)params->slots;
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

int serve_lock_open(struct request *request)
{
	const struct wire_lock_name *params = request->params;
	struct region *region;
	int result = serve_find(request, params->name, OBJECT_LOCK, &region);

	return result ? result : attach_existing(request, region);
}

/* ---- Looking ---- */

static void describe_state(const struct lock_state *state, struct wire_lock_info *info)
{
	const struct session *session;

	info->state = state->claimed + state->held;
	info->readers = state->readers;
	info->waiting_shared = state->waiting_shared;
	info->waiting_exclusive = state->waiting_exclusive;
	info->owner_died = state->owner_died;
	info->not_recoverable = state->not_recoverable;
	if (!state->holder)
		return;
	session = state->holder->session;
	info->has |= WIRE_HAS(lock_info, holder_pid) | WIRE_HAS(lock_info, holder_uid) |
		     WIRE_HAS(lock_info, holder_command);
	info->holder_pid = (uint64_t)session->identity.pid;
	info->holder_uid = session->identity.uid;
	info->holder_command = wire_string(session->command);
}

static int describe(struct broker *broker, struct region *region, struct wire_lock_info *info)
{
	struct lock_state *state;
	int result;

	*info = (struct wire_lock_info){
		.name = wire_string(region->name),
		.id = region->segments.id,
		.is_region = region->kind == OBJECT_REGION,
		.uid = region_owner(region),
		.gid = region->gid,
		.mode = region->mode,
		.lifetime = region->lifetime,
		.attachments = region->n_attachments,
		.slots = region->n_slots,
	};
	if (!region->slots) /* nobody has ever locked it */
		return 0;
	info->slots_used = region->slots->used;
	result = lock_look(broker, region, &state);
	if (result < 0)
		return result;
	describe_state(state, info);
	free(state);
	return 0;
}

int serve_lock_stat(struct request *request)
{
	const struct wire_lock_name *params = request->params;
	struct wire_lock_info info;
	struct region *region;
	int result = serve_find(request, params->name, 0, &region);

	if (result != 0)
		return result;
	if (region->kind == OBJECT_SEMAPHORE)
		return answer_fail(&request->failure, SHMB_EKIND, NULL);
	result = describe(request->broker, region, &info);
	if (result < 0)
		return answer_fail_system(&request->failure, result, "looking at a lock");
	return request_answer(request, &info);
}

static bool has_lock(const struct region *region)
{
	return region->slots;
}

static uint32_t count_slots(const struct region *region)
{
	return region->n_slots;
}

static int add_info(struct request *request, struct region *region, void *userdata, size_t index)
{
	struct wire_lock_info *infos = userdata;

	return describe(request->broker, region, &infos[index]);
}

int serve_lock_list(struct request *request)
{
	struct wire_lock_info infos[LIST_ENTRIES_MAX];
	struct wire_lock_list_result answer = { .locks = infos };
	struct page page = { .params = request->params,
			     .entries_max = LIST_ENTRIES_MAX,
			     .wanted = has_lock,
			     .add = add_info,
			     .n_slots = count_slots,
			     .userdata = infos };
	int result = serve_page(request, &page);

	if (result != 0)
		return result;
	answer.n_locks = page.n_entries;
	if (page.more) {
		answer.cursor = wire_string(page.cursor.text);
		answer.has |= WIRE_HAS(lock_list_result, cursor);
	}
	return request_answer(request, &answer);
}

/* ---- Who holds, who waits ---- */

/* Those of one object, by slot; a page of them. */
struct holders {
	struct wire_holder entries[HOLDERS_MAX];
	struct wire_holders_result answer;
};

static struct wire_holder holder_of(const struct session *session)
{
	return (struct wire_holder){ .pid = (uint64_t)session->identity.pid,
				     .uid = session->identity.uid,
				     .command = wire_string(session->command),
				     .condemned = session->peer && session->peer->condemned };
}

/* Return: false: the page is full, and goes on at @slot. */
static bool add_holder(struct holders *holders, const struct wire_holder *entry, uint32_t slot)
{
	if (entry->shared + entry->permits + entry->waiting == 0 && !entry->exclusive)
		return true;
	if (holders->answer.n_holders == HOLDERS_MAX) {
		holders->answer.after = slot - 1;
		holders->answer.has |= WIRE_HAS(holders_result, after);
		return false;
	}
	holders->entries[holders->answer.n_holders++] = *entry;
	return true;
}

static void of_lock(const struct region *region, const struct lock_state *state, uint32_t after,
		    struct holders *holders)
{
	for (uint32_t slot = after + 1; slot <= region->n_slots; slot++) {
		const struct attachment *owner = slots_owner(region->slots, slot);
		const struct lock_part *part = &state->parts[slot - 1];
		struct wire_holder entry;

		if (!owner)
			continue;
		entry = holder_of(owner->session);
		entry.exclusive = part->exclusive;
		entry.shared = part->shared;
		/* A client can write any numbers there; more than this is no answer. */
		entry.waiting = part->waiting_shared + (uint64_t)part->waiting_exclusive;
		if (entry.waiting > UINT32_MAX)
			entry.waiting = UINT32_MAX;
		if (!add_holder(holders, &entry, slot))
			return;
	}
}

static void of_semaphore(const struct semaphore *semaphore, const struct semaphore_state *state,
			 uint32_t after, struct holders *holders)
{
	for (uint32_t slot = after + 1; slot <= LAYOUT_ARENA_SLOTS; slot++) {
		const struct member *member = slots_owner(semaphore->arena->slots, slot);
		const struct semaphore_part *part = &state->parts[slot - 1];
		struct wire_holder entry;

		if (!member)
			continue;
		entry = holder_of(member->session);
		entry.permits = part->permits;
		entry.waiting = part->waiting;
		if (!add_holder(holders, &entry, slot))
			return;
	}
}

static int collect(struct broker *broker, struct region *region, uint32_t after,
		   struct holders *holders)
{
	struct semaphore_state semaphore;
	struct lock_state *lock;
	int result;

	if (region->kind == OBJECT_SEMAPHORE) {
		result = semaphore_look(broker, region->semaphore, &semaphore);
		if (result == 0)
			of_semaphore(region->semaphore, &semaphore, after, holders);
		return result;
	}
	if (!region->slots)
		return 0;
	result = lock_look(broker, region, &lock);
	if (result < 0)
		return result;
	of_lock(region, lock, after, holders);
	free(lock);
	return 0;
}

int serve_holders(struct request *request)
{
	const struct wire_holders_params *params = request->params;
	struct holders holders = { .answer = { .holders = holders.entries } };
	struct region *region;
	int result = serve_find(request, params->name, 0, &region);

	if (result != 0)
		return result;
	if (params->after < LAYOUT_LOCK_SLOTS_MAX)
		result = collect(request->broker, region, (uint32_t)params->after, &holders);
	if (result < 0)
		return answer_fail_system(&request->failure, result, "looking at an object");
	return request_answer(request, &holders.answer);
}
