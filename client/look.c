/* SPDX-License-Identifier: MIT */
/*
 * Asking about locks and semaphores, and who holds them: thin calls around one request each.
 * Touches no mapping.
 */

#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "client.h"
#include "list.h"
#include "sized.h"

enum { STATE_CLAIMED = 1, STATE_HELD = 2, HOLDERS_PAGE_MAX = 64 };

static void copy_process(struct shmb_process *process, uint64_t pid, uint64_t uid,
			 const struct wire_bytes *command)
{
	size_t length = command->length < sizeof(process->command) - 1
				? command->length
				: sizeof(process->command) - 1;

	process->pid = (uint32_t)pid;
	process->uid = (uint32_t)uid;
	if (length > 0)
		memcpy(process->command, command->data, length);
	process->command[length] = '\0';
}

/* ---- Locks ---- */

static int copy_lock(const struct wire_lock_info *from, struct shmb_lock_info *to)
{
	if (!wire_name_check(from->name.data, from->name.length, false))
		return SHMB_EPROTO;
	*to = (struct shmb_lock_info){
		.struct_size = sizeof(*to),
		.id = from->id,
		.is_region = from->is_region,
		.uid = (uint32_t)from->uid,
		.gid = (uint32_t)from->gid,
		.mode = (uint32_t)from->mode,
		.lifetime = (enum shmb_lifetime)from->lifetime,
		.attachments = (uint32_t)from->attachments,
		.slots = (uint32_t)from->slots,
		.slots_used = (uint32_t)from->slots_used,
		.held = from->state == STATE_HELD,
		.pending = from->state == STATE_CLAIMED,
		.readers = (uint32_t)from->readers,
		.waiting_shared = (uint32_t)from->waiting_shared,
		.waiting_exclusive = (uint32_t)from->waiting_exclusive,
		.owner_died = from->owner_died,
		.not_recoverable = from->not_recoverable,
	};
	memcpy(to->name, from->name.data, from->name.length);
	copy_process(&to->holder, from->holder_pid, from->holder_uid, &from->holder_command);
	return 0;
}

static int take_lock(struct call *call, const void *result)
{
	return copy_lock(result, call->context);
}

int shmb_lock_stat(struct shmb_client *client, const char *name, struct shmb_lock_info *ret_info)
{
	struct wire_lock_name params = { .has = 0 };
	struct shmb_lock_info info;
	int result = client_check_name(client, name);

	if (result < 0)
		return result;
	if (!ret_info || ret_info->struct_size < offsetof(struct shmb_lock_info, id))
		return error_note(&client->error, SHMB_EINVAL, "struct_size");
	params.name = wire_string(name);
	result = call_ask(client, &client->error, WIRE_LOCK_STAT, &params, take_lock, &info);
	if (result == 0)
		sized_write(ret_info, &info, sizeof(info));
	return result;
}

static int take_locks(struct call *call, const void *result)
{
	const struct wire_lock_list_result *list = result;
	struct page *page = call->context;
	struct shmb_lock_info *infos = page->infos;
	int error = page_take(page, list->n_locks, list->has & WIRE_HAS(lock_list_result, cursor),
			      &list->cursor);

	for (size_t i = 0; error == 0 && i < list->n_locks; i++)
		error = copy_lock(&list->locks[i], &infos[i]);
	return error;
}

static int tell_lock(const void *info, shmb_any_fn *callback, void *userdata)
{
	return ((shmb_lock_list_fn)callback)(info, userdata);
}

int shmb_lock_list(struct shmb_client *client, const char *prefix, shmb_lock_list_fn callback,
		   void *userdata)
{
	static const struct list_kind kind = {
		.method = WIRE_LOCK_LIST,
		.info_size = sizeof(struct shmb_lock_info),
		.take = take_locks,
		.tell = tell_lock,
	};

	return list_walk(client, &kind, prefix, (shmb_any_fn *)callback, userdata);
}

int shmb_lock_remove(struct shmb_client *client, const char *name)
{
	return client_remove(client, name, OBJECT_LOCK);
}

/* ---- Semaphores ---- */

static int copy_semaphore(const struct wire_semaphore_info *from, struct shmb_semaphore_info *to)
{
	if (!wire_name_check(from->name.data, from->name.length, false))
		return SHMB_EPROTO;
	*to = (struct shmb_semaphore_info){
		.struct_size = sizeof(*to),
		.id = from->id,
		.kind = (enum shmb_semaphore_kind)from->kind,
		.uid = (uint32_t)from->uid,
		.gid = (uint32_t)from->gid,
		.mode = (uint32_t)from->mode,
		.lifetime = (enum shmb_lifetime)from->lifetime,
		.attachments = (uint32_t)from->attachments,
		.value = (uint32_t)from->value,
		.maximum = (uint32_t)from->maximum,
		.waiting = (uint32_t)from->waiting,
	};
	memcpy(to->name, from->name.data, from->name.length);
	copy_process(&to->holder, from->holder_pid, from->holder_uid, &from->holder_command);
	return 0;
}

static int take_semaphore(struct call *call, const void *result)
{
	return copy_semaphore(result, call->context);
}

int shmb_semaphore_stat(struct shmb_client *client, const char *name,
			struct shmb_semaphore_info *ret_info)
{
	struct wire_semaphore_name params = { .has = 0 };
	struct shmb_semaphore_info info;
	int result = client_check_name(client, name);

	if (result < 0)
		return result;
	if (!ret_info || ret_info->struct_size < offsetof(struct shmb_semaphore_info, id))
		return error_note(&client->error, SHMB_EINVAL, "struct_size");
	params.name = wire_string(name);
	result = call_ask(client, &client->error, WIRE_SEMAPHORE_STAT, &params, take_semaphore,
			  &info);
	if (result == 0)
		sized_write(ret_info, &info, sizeof(info));
	return result;
}

static int take_semaphores(struct call *call, const void *result)
{
	const struct wire_semaphore_list_result *list = result;
	struct page *page = call->context;
	struct shmb_semaphore_info *infos = page->infos;
	int error = page_take(page, list->n_semaphores,
			      list->has & WIRE_HAS(semaphore_list_result, cursor), &list->cursor);

	for (size_t i = 0; error == 0 && i < list->n_semaphores; i++)
		error = copy_semaphore(&list->semaphores[i], &infos[i]);
	return error;
}

static int tell_semaphore(const void *info, shmb_any_fn *callback, void *userdata)
{
	return ((shmb_semaphore_list_fn)callback)(info, userdata);
}

int shmb_semaphore_list(struct shmb_client *client, const char *prefix,
			shmb_semaphore_list_fn callback, void *userdata)
{
	static const struct list_kind kind = {
		.method = WIRE_SEMAPHORE_LIST,
		.info_size = sizeof(struct shmb_semaphore_info),
		.take = take_semaphores,
		.tell = tell_semaphore,
	};

	return list_walk(client, &kind, prefix, (shmb_any_fn *)callback, userdata);
}

int shmb_semaphore_remove(struct shmb_client *client, const char *name)
{
	return client_remove(client, name, OBJECT_SEMAPHORE);
}

/* ---- Holders ---- */

struct holders {
	bool more;
	uint64_t after;
	size_t n;
	struct shmb_holder holders[HOLDERS_PAGE_MAX];
};

static int take_holders(struct call *call, const void *result)
{
	const struct wire_holders_result *list = result;
	struct holders *page = call->context;
	bool more = list->has & WIRE_HAS(holders_result, after);

	if (list->n_holders > HOLDERS_PAGE_MAX)
		return SHMB_EPROTO;
	/* One that does not come forward would never end. */
	if (more && page->more && list->after <= page->after)
		return SHMB_EPROTO;
	for (size_t i = 0; i < list->n_holders; i++) {
		const struct wire_holder *from = &list->holders[i];

		page->holders[i] = (struct shmb_holder){
			.struct_size = sizeof(struct shmb_holder),
			.exclusive = from->exclusive,
			.shared = (uint32_t)from->shared,
			.permits = (uint32_t)from->permits,
			.waiting = (uint32_t)from->waiting,
			.condemned = from->condemned,
		};
		copy_process(&page->holders[i].process, from->pid, from->uid, &from->command);
	}
	page->n = list->n_holders;
	page->more = more;
	page->after = list->after;
	return 0;
}

static int next_holders(struct shmb_client *client, const char *name, struct holders *page)
{
	struct wire_holders_params params = { .name = wire_string(name) };

	if (client_forked(client)) /* by the callback */
		return SHMB_EFORKED;
	if (page->more) {
		params.has |= WIRE_HAS(holders_params, after);
		params.after = page->after;
	}
	return call_ask(client, &client->error, WIRE_HOLDERS, &params, take_holders, page);
}

int shmb_client_holders(struct shmb_client *client, const char *name, shmb_holders_fn callback,
			void *userdata)
{
	int result = client_check_name(client, name);
	struct holders *page;

	if (result < 0)
		return result;
	if (!callback)
		return error_note(&client->error, SHMB_EINVAL, "callback");
	page = calloc(1, sizeof(*page));
	if (!page)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	do {
		result = next_holders(client, name, page);
		for (size_t i = 0; result == 0 && i < page->n; i++)
			result = callback(&page->holders[i], userdata);
	} while (result == 0 && page->more);
	free(page);
	return result;
}
