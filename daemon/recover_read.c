/* SPDX-License-Identifier: MIT */
/*
 * The latest record of each thing, out of all that the manifest has. A record that makes no sense
 * is left out and counted.
 */
#include "recovery.h"

#include "broker.h"

#include <stdlib.h>
#include <string.h>

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

void recovery_read_all(struct recovery *recovery,
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

void recovery_read(struct recovery *recovery)
{
	recovery_read_all(recovery, take_record);
}

#define FREE_ALL(head, type)                       \
	do {                                       \
		struct type *found, *next;         \
		HASH_ITER(hh, head, found, next) { \
			HASH_DEL(head, found);     \
			free(found);               \
		}                                  \
	} while (0)

void recovery_deinit(struct recovery *recovery)
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
