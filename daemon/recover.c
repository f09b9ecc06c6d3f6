/* SPDX-License-Identifier: MIT */
/*
 * From the manifest's records back to the broker's structures; remember.c is the other way.
 *
 * First the latest record of each thing is found, then its memory, then it is put where it was.
 * A record that makes no sense is left out and counted. Then the manifest is written anew, and only
 * then anything ends: those who have died, with what they had, and things whose memory is gone.
 * Whoever dies here has changed nothing, or what the next daemon does again with the same result.
 */
#include "recover.h"

#include "account.h"
#include "activation.h"
#include "arena.h"
#include "broker.h"
#include "daemon.h"
#include "growth.h"
#include "layout/lock.h"
#include "layout/publish.h"
#include "lock.h"
#include "log.h"
#include "remember.h"
#include "resize.h"
#include "session.h"
#include "ticket.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct text {
	const char *data;
	size_t length;
};

struct arena_found {
	struct record_arena record;
	struct arena *arena;
	bool has_memory;
	UT_hash_handle hh; /* by record.id */
};

struct object_found {
	struct record_object record;
	struct text name, path;
	struct region *region;
	bool has_memory[SEGMENT_COUNT];
	bool lost;         /* and its name with it */
	bool orphaned;     /* the session that it was to end with has ended */
	UT_hash_handle hh; /* by record.id */
};

struct session_found {
	struct record_session record;
	struct text command;
	struct session *session;
	bool dead;
	UT_hash_handle hh; /* by record.number */
};

struct attachment_found {
	struct record_end key; /* session and handle */
	struct record_attachment record;
	UT_hash_handle hh; /* by key */
};

struct ticket_found {
	struct record_ticket record;
	UT_hash_handle hh; /* by record.number */
};

struct recovery {
	struct broker *broker;
	struct activation *activation;
	struct manifest_view view;
	struct arena_found *arenas;
	struct object_found *objects;
	struct session_found *sessions;
	struct attachment_found *attachments;
	struct ticket_found *tickets;
	bool no_memory;
	uint64_t n_senseless; /* records */
	uint64_t n_lost, n_dead;
	uint64_t lost_bytes; /* of the file, behind a record that cannot be read */
};

/* ---- The latest record of each ---- */

union any_record {
	struct record_arena arena;
	struct record_object object;
	struct record_size size;
	struct record_session session;
	struct record_attachment attachment;
	struct record_done done;
	struct record_ticket ticket;
	struct record_position position;
	struct record_end end;
};

/* Finds the element of @key in the table @head, or makes one. */
#define FIND_OR_MAKE(recovery, head, key, found)                 \
	do {                                                     \
		HASH_FIND(hh, head, &(key), sizeof(key), found); \
		if (!(found)) {                                  \
			(found) = calloc(1, sizeof(*(found)));   \
			if (!(found))                            \
				(recovery)->no_memory = true;    \
		}                                                \
	} while (0)

/* Enters a new one under its @field. */
#define ENTER(recovery, head, field, found)                               \
	do {                                                              \
		HASH_ADD(hh, head, field, sizeof((found)->field), found); \
		if (!TABLE_HAS(found)) {                                  \
			free(found);                                      \
			(recovery)->no_memory = true;                     \
		}                                                         \
	} while (0)

/* Numbers are not given again, whatever has become of what had them. */
static void note_used(uint64_t *highest, uint64_t number)
{
	if (number > *highest)
		*highest = number;
}

/* 0 is none, and there must be a next one. */
static bool is_number(struct recovery *recovery, uint64_t number)
{
	if (number >= 1 && number < INT64_MAX)
		return true;
	recovery->n_senseless++;
	return false;
}

static void keep_arena(struct recovery *recovery, const struct record_arena *record)
{
	struct arena_found *found;

	if (!is_number(recovery, record->id))
		return;
	FIND_OR_MAKE(recovery, recovery->arenas, record->id, found);
	if (!found)
		return;
	note_used(&recovery->broker->regions.next_id, record->id);
	found->record = *record;
	if (!TABLE_HAS(found))
		ENTER(recovery, recovery->arenas, record.id, found);
	// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) it is in the table
}

static void keep_object(struct recovery *recovery, const struct record_object *record,
			const struct record *from)
{
	struct object_found *found;

	if (!is_number(recovery, record->id))
		return;
	FIND_OR_MAKE(recovery, recovery->objects, record->id, found);
	if (!found)
		return;
	note_used(&recovery->broker->regions.next_id, record->id);
	found->record = *record;
	found->name = (struct text){ from->text, strnlen(from->text, from->text_length) };
	found->path = (struct text){ from->text, 0 };
	if (found->name.length < from->text_length)
		found->path = (struct text){ from->text + found->name.length + 1,
					     from->text_length - found->name.length - 1 };
	if (!TABLE_HAS(found))
		ENTER(recovery, recovery->objects, record.id, found);
	// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) it is in the table
}

static void keep_session(struct recovery *recovery, const struct record_session *record,
			 const struct record *from)
{
	struct session_found *found;

	if (!is_number(recovery, record->number))
		return;
	FIND_OR_MAKE(recovery, recovery->sessions, record->number, found);
	if (!found)
		return;
	note_used(&recovery->broker->next_session, record->number);
	found->record = *record;
	found->command = (struct text){ from->text, from->text_length };
	if (!TABLE_HAS(found))
		ENTER(recovery, recovery->sessions, record.number, found);
	// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) it is in the table
}

static void keep_attachment(struct recovery *recovery, const struct record_attachment *record)
{
	const struct record_end key = { .id = record->session, .handle = record->handle };
	struct attachment_found *found;
	struct session_found *session;

	HASH_FIND(hh, recovery->sessions, &key.id, sizeof(key.id), session);
	if (session && record->handle > session->record.last_handle)
		session->record.last_handle = record->handle;

	// NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) it has no padding
	FIND_OR_MAKE(recovery, recovery->attachments, key, found);
	if (!found)
		return;
	found->key = key;
	found->record = *record;
	if (!TABLE_HAS(found))
		ENTER(recovery, recovery->attachments, key, found);
}

static void keep_ticket(struct recovery *recovery, const struct record_ticket *record)
{
	struct ticket_found *found;

	if (!is_number(recovery, record->number))
		return;
	FIND_OR_MAKE(recovery, recovery->tickets, record->number, found);
	if (!found)
		return;
	note_used(&recovery->broker->next_ticket, record->number);
	found->record = *record;
	if (!TABLE_HAS(found))
		ENTER(recovery, recovery->tickets, record.number, found);
	// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) it is in the table
}

static void change_object(struct recovery *recovery, const struct record *record)
{
	const struct record_end *end = record->fixed; /* each of these begins with the id */
	const struct record_size *size = record->fixed;
	struct object_found *found;

	HASH_FIND(hh, recovery->objects, &end->id, sizeof(end->id), found);
	if (!found) {
		recovery->n_senseless++;
	} else if (record->type == RECORD_OBJECT_REMOVED) {
		found->record.removed = 1;
		found->record.creator = 0;
	} else if (record->type == RECORD_SIZE) {
		found->record.size = size->size;
		found->record.resizing = size->resizing != 0;
	} else {
		HASH_DEL(recovery->objects, found);
		free(found);
	}
}

#define DROP(recovery, head, key, found)                         \
	do {                                                     \
		HASH_FIND(hh, head, &(key), sizeof(key), found); \
		if (found) {                                     \
			HASH_DEL(head, found);                   \
			free(found);                             \
		} else {                                         \
			(recovery)->n_senseless++;               \
		}                                                \
	} while (0)

static void drop(struct recovery *recovery, const struct record *record)
{
	const struct record_end *end = record->fixed;
	struct attachment_found *attachment;
	struct session_found *session;
	struct ticket_found *ticket;
	struct arena_found *arena;

	if (record->type == RECORD_TICKET_END)
		DROP(recovery, recovery->tickets, end->id, ticket);
	else if (record->type == RECORD_ARENA_END)
		DROP(recovery, recovery->arenas, end->id, arena);
	else if (record->type == RECORD_SESSION_END)
		DROP(recovery, recovery->sessions, end->id, session);
	else
		DROP(recovery, recovery->attachments, *end, attachment);
}

static void take_record(struct recovery *recovery, const struct record *record)
{
	switch (record->type) {
	case RECORD_ARENA:
		keep_arena(recovery, record->fixed);
		break;
	case RECORD_OBJECT:
		keep_object(recovery, record->fixed, record);
		break;
	case RECORD_SESSION:
		keep_session(recovery, record->fixed, record);
		break;
	case RECORD_ATTACHMENT:
		keep_attachment(recovery, record->fixed);
		break;
	case RECORD_TICKET:
		keep_ticket(recovery, record->fixed);
		break;
	case RECORD_OBJECT_REMOVED:
	case RECORD_OBJECT_END:
	case RECORD_SIZE:
		change_object(recovery, record);
		break;
	case RECORD_ARENA_END:
	case RECORD_SESSION_END:
	case RECORD_ATTACHMENT_END:
	case RECORD_TICKET_END:
		drop(recovery, record);
		break;
	case RECORD_DONE:
	case RECORD_POSITION:
		break; /* when the sessions are there */
	default:
		recovery->n_senseless++;
	}
}

static void read_records(struct recovery *recovery,
			 void (*take)(struct recovery *recovery, const struct record *record))
{
	union any_record room;
	struct record record;
	uint64_t at = 0;
	int result;

	while ((result = manifest_read(&recovery->view, &at, &room, sizeof(room), &record)) == 1)
		take(recovery, &record);
	if (result < 0)
		recovery->lost_bytes = recovery->view.end - at;
}

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

/* An object in /dev/shm. Return: is it one of ours? */
static bool claim_shm(void *userdata, uint64_t id, enum segment which, uint32_t generation)
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

/* ---- All together ---- */

static void place_all(struct recovery *recovery)
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
	read_records(recovery, take_late_record);
}

static bool nobody_needs(const struct region *region)
{
	return region->n_attachments == 0 && (region->removed || region->lifetime == SHMB_ATTACHED);
}

/* Lost memory takes the name with it; handles stay until they are closed. */
static void remove_lost(struct recovery *recovery)
{
	struct broker *broker = recovery->broker;
	struct object_found *found, *next;

	HASH_ITER(hh, recovery->objects, found, next) {
		struct region *region = found->region;

		if (!region || !(found->lost || found->orphaned || nobody_needs(region)))
			continue;
		recovery->n_lost += found->lost;
		region_unlink(broker, region); /* which frees it, if nobody is attached */
	}
}

static void end_dead(struct recovery *recovery)
{
	struct session_found *found, *next;

	HASH_ITER(hh, recovery->sessions, found, next) {
		if (!found->session || !found->dead)
			continue;
		recovery->n_dead++;
		session_end(found->session);
	}
}

/* It cannot be looked at now, so nothing is known of the numbers that nobody owns. */
static void sweep_later(struct broker *broker, struct slots *slots)
{
	for (uint32_t slot = 1; slot <= slots->size; slot++)
		slots_sweep(broker, slots, slot);
}

/* What the daemon before may not have got to: its last words in publish pages, punches, repairs. */
static void finish(struct broker *broker)
{
	struct region *region;
	struct arena *arena, *next_arena;

	DL_FOREACH2(broker->regions.all, region, next) {
		if (region->removed && region->segments.made[SEGMENT_PUBLISH])
			region_write_word(broker, region, offsetof(struct layout_publish, removed),
					  1, sizeof(uint32_t));
		if (region->segments.generation > 0)
			growth_show(broker, region);
		if (region->resizing && resize_recover(broker, region) < 0)
			region->resizing = false;
		if (region->slots && lock_sweep(broker, region) < 0)
			sweep_later(broker, region->slots);
	}
	DL_FOREACH_SAFE(broker->arenas, arena, next_arena)
	{
		arena_recovered(broker, arena);
	}
	DL_FOREACH(broker->arenas, arena)
		if (arena_sweep(broker, arena) < 0)
			sweep_later(broker, arena->slots);
}

static void report(const struct recovery *recovery, int n_leftover, size_t n_unclaimed)
{
	const struct broker *broker = recovery->broker;

	log_notice("took over %llu regions, %llu locks, %llu semaphores and %llu sessions",
		   (unsigned long long)broker->regions.counts[OBJECT_REGION],
		   (unsigned long long)broker->regions.counts[OBJECT_LOCK],
		   (unsigned long long)broker->regions.counts[OBJECT_SEMAPHORE],
		   (unsigned long long)broker->accounts.total[CHARGE_AWAY]);
	if (recovery->n_dead > 0)
		log_notice("%llu sessions had lost their processes",
			   (unsigned long long)recovery->n_dead);
	if (recovery->n_lost > 0)
		log_warning("the memory of %llu objects is gone: they are removed",
			    (unsigned long long)recovery->n_lost);
	if (n_leftover > 0 || n_unclaimed > 0)
		log_notice("removed %d segments and %zu stored descriptors that nobody remembers",
			   n_leftover, n_unclaimed);
	if (recovery->lost_bytes > 0)
		log_error("the manifest cannot be read to its end: the last %llu bytes are lost",
			  (unsigned long long)recovery->lost_bytes);
	if (recovery->n_senseless > 0)
		log_error("%llu records of the manifest make no sense and are left out",
			  (unsigned long long)recovery->n_senseless);
}

#define FREE_ALL(head, type)                       \
	do {                                       \
		struct type *found, *next;         \
		HASH_ITER(hh, head, found, next) { \
			HASH_DEL(head, found);     \
			free(found);               \
		}                                  \
	} while (0)

static void recovery_deinit(struct recovery *recovery)
{
	// NOLINTBEGIN(clang-analyzer-unix.Malloc) what was freed is not in its table
	FREE_ALL(recovery->arenas, arena_found);
	FREE_ALL(recovery->objects, object_found);
	FREE_ALL(recovery->sessions, session_found);
	FREE_ALL(recovery->attachments, attachment_found);
	FREE_ALL(recovery->tickets, ticket_found);
	// NOLINTEND(clang-analyzer-unix.Malloc)
	manifest_view_close(&recovery->view);
}

/* A full directory need not keep us from serving: what will end has its room in the old file. */
static int open_manifest(struct recovery *recovery, const char *directory)
{
	struct broker *broker = recovery->broker;
	int result = remember_rewrite(broker, directory);

	if ((result != -ENOSPC && result != -EDQUOT) || recovery->lost_bytes > 0 ||
	    recovery->view.version != MANIFEST_VERSION)
		return result;
	log_begin(LOG_MANIFEST, strerror(-result));
	return manifest_continue(&broker->manifest, directory);
}

/* Return: 0, or a negative errno: better not to serve than to forget. */
static int take_over(struct recovery *recovery, const char *directory)
{
	struct broker *broker = recovery->broker;
	size_t n_unclaimed;
	int n_leftover, result;

	broker->regions.next_id = recovery->view.origin.next_id;
	broker->next_session = recovery->view.origin.next_session;
	broker->recoveries = recovery->view.origin.recoveries + 1;
	read_records(recovery, take_record);
	recovery->lost_bytes += recovery->view.torn;
	if (recovery->no_memory)
		return -ENOMEM;
	n_leftover = backing_shm_sweep(broker->instance.id, claim_shm, recovery);
	place_all(recovery);
	result = recovery->no_memory ? -ENOMEM : open_manifest(recovery, directory);
	if (result < 0)
		return result;
	n_unclaimed = activation_deinit(recovery->activation, &broker->store);
	region_batch_begin(broker);
	remove_lost(recovery);
	end_dead(recovery);
	region_batch_end(broker);
	finish(broker);
	report(recovery, n_leftover, n_unclaimed);
	return 0;
}

/* What of a dead daemon cannot be taken over goes. */
static int begin_anew(struct broker *broker, const char *directory, struct activation *activation)
{
	int removed = 0;

	if (broker->instance.previous)
		removed = backing_shm_sweep(broker->instance.previous, NULL, NULL);
	if (removed > 0)
		log_notice("the daemon before left no manifest; removed %d segments it left",
			   removed);
	activation_deinit(activation, &broker->store);
	return remember_rewrite(broker, directory);
}

static int refuse_newer(const struct manifest_view *view)
{
	log_error("the manifest is of version %u, this daemon reads those up to %u: nothing was "
		  "touched; start a newer shmbrokerd, or discard all with --purge",
		  (unsigned)view->version, (unsigned)MANIFEST_VERSION);
	return EXIT_CODE_NEWER;
}

int recover(struct broker *broker, const char *directory, struct activation *activation)
{
	struct recovery recovery = { .broker = broker, .activation = activation };
	int state = manifest_look(&recovery.view, directory);
	int result = 0;

	if (state == MANIFEST_NEWER) {
		result = refuse_newer(&recovery.view);
		manifest_view_close(&recovery.view);
		return result;
	}
	if (state == MANIFEST_GARBLED)
		log_error("the manifest makes no sense: what it remembered is lost");
	if (state < 0)
		result = state;
	else
		result = instance_name(&broker->instance,
				       state == MANIFEST_GOOD ? recovery.view.origin.instance : 0);
	if (result == 0 && state == MANIFEST_GOOD)
		result = take_over(&recovery, directory);
	else if (result == 0)
		result = begin_anew(broker, directory, activation);
	recovery_deinit(&recovery);
	if (result == 0)
		return 0;
	log_error("cannot take over what is in %s: %s", directory, strerror(-result));
	return EXIT_CODE_FAILURE;
}

int recover_purge(struct broker *broker, const char *directory)
{
	struct manifest_view view;
	int removed = 0;

	if (manifest_look(&view, directory) >= 0 && view.origin.instance)
		removed = backing_shm_sweep(view.origin.instance, NULL, NULL);
	if (broker->instance.previous && broker->instance.previous != view.origin.instance)
		removed += backing_shm_sweep(broker->instance.previous, NULL, NULL);
	manifest_view_close(&view);
	manifest_remove(directory);
	log_notice("removed %d segments", removed);
	return EXIT_CODE_OK;
}
