/* SPDX-License-Identifier: MIT */
/*
 * From the records back to the broker's structures: memory first, then what lies in it, then those
 * who have it. remember.c is the other way.
 */
#include "recovery.h"

#include "account.h"
#include "activation.h"
#include "arena.h"
#include "broker.h"
#include "layout/lock.h"
#include "lock.h"
#include "log.h"
#include "remember.h"
#include "session.h"
#include "ticket.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* ---- Memory ---- */

/* Of a segment whose name in /dev/shm was found, or that the service manager has kept. The next
 * daemon will miss what we miss. */
static bool find_memory(struct recovery *recovery, struct segments *segments, enum segment which,
			const struct record_segment *record, bool is_in_shm)
{
	int fd;

	if (segment_backing(segments, which) == &backing_shm) {
		segments->made[which] = is_in_shm;
		segments->missed[which] = !is_in_shm;
		return is_in_shm;
	}
	fd = activation_claim(recovery->activation, record->store, record->inode);
	segments->missed[which] = fd < 0 || !store_claim(&recovery->broker->store, record->store);
	if (segments->missed[which])
		return false;
	segments->fds[which] = fd;
	segments->inodes[which] = record->inode;
	segments->stored[which] = record->store;
	segments->made[which] = true;
	return true;
}

/* 0: before it was written down, and where it says nothing new. */
static unsigned data_number(const struct record_object *record)
{
	return record->data ? record->data : record->backing;
}

bool recovery_claim(void *userdata, uint64_t id, enum segment which, uint32_t generation)
{
	struct recovery *recovery = userdata;
	struct object_found *object;
	struct arena_found *arena;

	HASH_FIND(hh, recovery->objects, &id, sizeof(id), object);
	if (object && which != SEGMENT_READER && object->record.segments[which].made &&
	    (which != SEGMENT_DATA || object->record.generation == generation) &&
	    (which == SEGMENT_DATA ? data_number(&object->record) : object->record.backing) ==
		    SHMB_BACKING_SHM) {
		object->has_memory[which] = true;
		return true;
	}
	HASH_FIND(hh, recovery->arenas, &id, sizeof(id), arena);
	if (!arena || arena->record.backing != SHMB_BACKING_SHM || which != SEGMENT_LOCK)
		return false;
	arena->has_memory = true;
	return true;
}

/* ---- Arenas and objects ---- */

static void place_arena(struct recovery *recovery, struct arena_found *found)
{
	const struct record_arena *record = &found->record;
	const struct arena_request request = { .id = record->id,
					       .backing = backing_of(record->backing),
					       .uid = record->uid,
					       .gid = record->gid,
					       .mode = record->mode };

	if (!request.backing || record->mode > 0777) {
		recovery->n_senseless++;
		return;
	}
	found->arena = arena_recover(recovery->broker, &request);
	if (!found->arena) {
		recovery->no_memory = true;
		return;
	}
	found->has_memory = find_memory(recovery, &found->arena->segments, SEGMENT_LOCK,
					&record->segment, found->has_memory);
}

static bool makes_sense(const struct object_found *found)
{
	const struct record_object *record = &found->record;
	bool is_region = record->kind == OBJECT_REGION;
	bool is_anonymous = is_region && found->name.length == 0;
	bool has_slots = record->n_slots >= 1 && record->n_slots <= LAYOUT_LOCK_SLOTS_MAX;

	return record->kind >= OBJECT_REGION && record->kind < OBJECT_KINDS &&
	       (is_anonymous || wire_name_check(found->name.data, found->name.length, false)) &&
	       found->name.length <= SHMB_NAME_MAX && backing_of(record->backing) &&
	       backing_of(data_number(record)) && found->path.length <= PATH_BYTES &&
	       record->mode <= 0777 && record->lifetime <= SHMB_PERSISTENT &&
	       (!is_region || (record->size >= 1 && record->size <= record->capacity &&
			       record->capacity <= INT64_MAX / 2)) &&
	       (record->kind == OBJECT_SEMAPHORE || has_slots);
}

static int place_semaphore(struct recovery *recovery, struct object_found *found)
{
	const struct record_object *record = &found->record;
	const struct region_request request = { .semaphore_kind = record->semaphore_kind,
						.maximum = record->maximum };
	struct arena_found *arena;
	bool owned = record->semaphore_kind == SHMB_OWNED;

	HASH_FIND(hh, recovery->arenas, &record->arena, sizeof(record->arena), arena);
	if (!arena || !arena->arena || record->maximum == 0 ||
	    (!owned && record->semaphore_kind != SHMB_COUNTING) ||
	    record->maximum > (owned ? LAYOUT_PERMITS_MAX : LAYOUT_SEMAPHORE_MAX))
		return -EINVAL;
	found->lost = !arena->has_memory;
	return semaphore_recover(arena->arena, found->region, record->unit, &request);
}

/* Two descriptors of one file came back by one number: which of them may write tells which is
 * which.
 */
static void tell_apart(struct segments *segments)
{
	int *data = &segments->fds[SEGMENT_DATA], *reader = &segments->fds[SEGMENT_READER];
	int first = *data;

	if (!segments->made[SEGMENT_READER] || (fcntl(first, F_GETFL) & O_ACCMODE) != O_RDONLY)
		return;
	*data = *reader;
	*reader = first;
}

static int place_memory(struct recovery *recovery, struct object_found *found)
{
	const struct record_object *record = &found->record;
	struct region *region = found->region;

	for (int i = 0; i < RECORD_SEGMENTS; i++)
		if (record->segments[i].made &&
		    !find_memory(recovery, &region->segments, (enum segment)i, &record->segments[i],
				 found->has_memory[i]))
			found->lost = true;
	if (record->reader.made &&
	    !find_memory(recovery, &region->segments, SEGMENT_READER, &record->reader, false))
		found->lost = true;
	tell_apart(&region->segments);
	if (record->kind == OBJECT_REGION && !record->segments[SEGMENT_DATA].made)
		return -EINVAL;
	return record->segments[SEGMENT_LOCK].made ? lock_recover(recovery->broker, region)
	       : record->kind == OBJECT_LOCK       ? -EINVAL
						   : 0;
}

static void fill_object(struct recovery *recovery, struct object_found *found)
{
	const struct record_object *record = &found->record;
	struct region *region = found->region;

	segments_init(&region->segments, backing_of(record->backing),
		      backing_of(data_number(record)), record->id);
	region->segments.generation = record->generation;
	region->read_only = record->read_only;
	region->kind = record->kind;
	region->size = record->size;
	region->capacity = record->capacity;
	region->created = record->created;
	region->gid = record->gid;
	region->mode = record->mode;
	region->n_slots = record->n_slots;
	region->lifetime = record->lifetime;
	region->resizing = record->resizing;
	region->metadata = record->metadata;
	region->deaths = record->deaths;
}

/* Return: 0, or a negative errno with nothing entered anywhere. */
static int make_object(struct recovery *recovery, struct object_found *found)
{
	struct broker *broker = recovery->broker;
	struct region *region = region_alloc(found->name.data, found->name.length);
	int result;

	if (!region)
		return -ENOMEM;
	found->region = region;
	fill_object(recovery, found);
	if (found->path.length > 0)
		region->path = strndup(found->path.data, found->path.length);
	region->account = account_get(&broker->accounts, found->record.uid);
	result = !region->account                   ? -ENOMEM
		 : region->kind == OBJECT_SEMAPHORE ? place_semaphore(recovery, found)
						    : place_memory(recovery, found);
	if (result < 0) {
		account_put(region->account);
		segments_leave(&region->segments);
		slots_free(broker, region->slots);
		free(region->path);
		free(region);
		found->region = NULL;
	}
	return result;
}

static void enter_object(struct recovery *recovery, struct object_found *found)
{
	struct broker *broker = recovery->broker;
	struct region *region = found->region;
	struct session_found *creator;
	uint64_t number = found->record.creator;

	region->removed = found->record.removed;
	if (!region->removed && *region->name && !region_insert(&broker->regions, region)) {
		recovery->n_senseless++;
		region->removed = true;
	}
	DL_APPEND2(broker->regions.all, region, previous, next);
	broker->regions.counts[region->kind]++;
	region_charge_recovered(broker, region);
	manifest_owe(&broker->manifest, region->removed ? OWED_END : OWED_OBJECT);
	if (region->lifetime != SHMB_SESSION || region->removed)
		return;
	HASH_FIND(hh, recovery->sessions, &number, sizeof(number), creator);
	if (!creator || !creator->session) {
		found->orphaned = true;
		return;
	}
	region->creator = creator->session;
	DL_APPEND2(creator->session->regions, region, creator_previous, creator_next);
}

static void place_object(struct recovery *recovery, struct object_found *found)
{
	int result = makes_sense(found) ? make_object(recovery, found) : -EINVAL;

	if (result == 0)
		enter_object(recovery, found);
	else if (result == -ENOMEM)
		recovery->no_memory = true;
	else
		recovery->n_senseless++;
}

/* ---- Sessions ---- */

/* Who cannot be looked up for want of descriptors lives, as far as we know. */
static void place_session(struct recovery *recovery, struct session_found *found)
{
	const struct record_session *record = &found->record;
	struct session model = { .number = record->number,
				 .last_handle = record->last_handle,
				 .identity = { .uid = record->uid,
					       .gid = record->gid,
					       .pid = (pid_t)record->pid,
					       .start = record->start,
					       .process = record->process } };
	int alive = identity_find(&model.identity);

	if (alive < 0)
		log_begin(LOG_OUT_OF_FDS, "a process cannot be watched");
	found->dead = alive == 0;
	memcpy(model.token, record->token, sizeof(model.token));
	session_name(&model, found->command.data, found->command.length);
	if (session_recover(recovery->broker, &model, &found->session) < 0) {
		identity_deinit(&model.identity);
		recovery->no_memory = true;
	}
}

static int place_part(struct attachment *attachment, uint32_t slot)
{
	struct region *region = attachment->region;

	if (region->kind == OBJECT_SEMAPHORE)
		return semaphore_recover_attachment(attachment, slot);
	if (slot == 0)
		return region->kind == OBJECT_LOCK ? -EINVAL : 0;
	if (!region->slots || !slots_put(region->slots, slot, attachment))
		return -EINVAL;
	attachment->slot = (uint16_t)slot;
	account_charge(attachment->session->account, CHARGE_SLOTS, 1, UINT64_MAX);
	return 0;
}

static void place_attachment(struct recovery *recovery, const struct attachment_found *found)
{
	const struct record_attachment *record = &found->record;
	struct attachment *attachment;
	struct session_found *session;
	struct object_found *object;
	int result = -EINVAL;

	HASH_FIND(hh, recovery->sessions, &record->session, sizeof(record->session), session);
	HASH_FIND(hh, recovery->objects, &record->object, sizeof(record->object), object);
	if (session && session->session && object && object->region && record->access <= 7)
		result = attachment_recover(recovery->broker, object->region, session->session,
					    record->handle, record->access, &attachment);
	if (result == 0) {
		result = place_part(attachment, record->slot);
		if (result < 0) { /* but its object does not end with it: others may follow */
			object->region->n_attachments++;
			region_detach(recovery->broker, attachment, false);
			object->region->n_attachments--;
		}
	}
	if (result == -ENOMEM)
		recovery->no_memory = true;
	else if (result < 0)
		recovery->n_senseless++;
}

static void place_ticket(struct recovery *recovery, const struct ticket_found *found)
{
	const struct record_ticket *record = &found->record;
	struct ticket model = { .number = record->number, .access = record->access };
	struct attachment *attachment = NULL;
	struct session_found *session;
	int result = -EINVAL;

	HASH_FIND(hh, recovery->sessions, &record->session, sizeof(record->session), session);
	if (session && session->session)
		attachment = session_attachment(session->session, record->handle);
	memcpy(model.token, record->token, sizeof(model.token));
	if (attachment && !(record->access & ~(unsigned)attachment->access) &&
	    attachment->region->kind == OBJECT_REGION)
		result = ticket_recover(recovery->broker, attachment, &model);
	if (result == -ENOMEM)
		recovery->no_memory = true;
	else if (result < 0)
		recovery->n_senseless++;
}

/* What belongs to sessions, in the order in which it came. */
static void take_late_record(struct recovery *recovery, const struct record *record)
{
	const struct record_position *position = record->fixed;
	const struct record_done *done = record->fixed;
	struct session_found *found;
	struct session *session;

	if (record->type != RECORD_DONE && record->type != RECORD_POSITION)
		return;
	HASH_FIND(hh, recovery->sessions, &done->session, sizeof(done->session), found);
	session = found ? found->session : NULL;
	if (!session)
		return;
	if (record->type == RECORD_DONE) {
		if (!session_add_done(session, done->msgid, done->handle, done->created))
			recovery->no_memory = true;
	} else if (record->text_length <= SHMB_NAME_MAX) {
		free(session->list_position);
		session->list_position = strndup(record->text, record->text_length);
		session->list_serial = (uint32_t)position->serial;
	}
}

void recovery_place(struct recovery *recovery)
{
	struct attachment_found *attachment, *next_attachment;
	struct session_found *session, *next_session;
	struct object_found *object, *next_object;
	struct ticket_found *ticket, *next_ticket;
	struct arena_found *arena, *next_arena;

	HASH_ITER(hh, recovery->arenas, arena, next_arena)
		place_arena(recovery, arena);
	HASH_ITER(hh, recovery->sessions, session, next_session)
		place_session(recovery, session);
	HASH_ITER(hh, recovery->objects, object, next_object)
		place_object(recovery, object);
	HASH_ITER(hh, recovery->attachments, attachment, next_attachment)
		place_attachment(recovery, attachment);
	HASH_ITER(hh, recovery->tickets, ticket, next_ticket)
		place_ticket(recovery, ticket);
	recovery_read_all(recovery, take_late_record);
}
