/* SPDX-License-Identifier: MIT */
/*
 * From the broker's structures to the manifest's records. recover.c is the way back.
 */
#include "remember.h"

#include "arena.h"
#include "broker.h"
#include "log.h"
#include "session.h"
#include "ticket.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum {
	/* An arena, an object with the longest name and path, its attachment, the request. */
	REQUEST_BYTES = 4096,
	HELLOS_BYTES = 64 << 10,
	AGAIN_MS = 100,
};

int remember_reserve(struct broker *broker, bool hello)
{
	return manifest_reserve(&broker->manifest, REQUEST_BYTES + (hello ? 0 : HELLOS_BYTES));
}

/* ---- Records ---- */

static struct record_segment segment_record(const struct segments *segments, enum segment which)
{
	return (struct record_segment){ .inode = segments->inodes[which],
					.store = segments->stored[which],
					.made = segments->made[which] || segments->missed[which] };
}

static void append_arena(struct manifest *manifest, const struct arena *arena)
{
	const struct record_arena record = {
		.id = arena->segments.id,
		.segment = segment_record(&arena->segments, SEGMENT_LOCK),
		.uid = arena->uid,
		.gid = arena->gid,
		.mode = arena->mode,
		.backing = arena->segments.backing->number,
	};

	manifest_append(manifest, RECORD_ARENA, &record, sizeof(record), NULL, 0);
}

static void append_object(struct manifest *manifest, const struct region *region)
{
	struct record_object record = {
		.id = region->segments.id,
		.size = region->size,
		.capacity = region->capacity,
		.created = region->created,
		.creator = region->creator ? region->creator->number : 0,
		.uid = region_owner(region),
		.gid = region->gid,
		.mode = region->mode,
		.n_slots = region->n_slots,
		.kind = region->kind,
		.lifetime = region->lifetime,
		.backing = (uint8_t)region->segments.backing->number,
		.removed = region->removed,
		.resizing = region->resizing,
		.metadata = region->metadata,
		.deaths = region->deaths,
		.generation = region->segments.generation,
		.data = (uint8_t)region->segments.data->number,
		.read_only = region->read_only,
	};
	char text[SHMB_NAME_MAX + PATH_BYTES + 2];
	size_t length = strlen(region->name);

	memcpy(text, region->name, length + 1);
	if (region->path)
		length += 1 + (size_t)snprintf(text + length + 1, sizeof(text) - length - 1, "%s",
					       region->path);
	for (int i = 0; i < RECORD_SEGMENTS; i++)
		record.segments[i] = segment_record(&region->segments, (enum segment)i);
	record.reader = segment_record(&region->segments, SEGMENT_READER);
	if (region->semaphore) {
		record.arena = region->semaphore->arena->segments.id;
		record.unit = region->semaphore->unit;
		record.maximum = region->semaphore->maximum;
		record.semaphore_kind = (uint8_t)region->semaphore->kind;
	}
	manifest_append(manifest, RECORD_OBJECT, &record, sizeof(record), text, length);
}

static void append_session(struct manifest *manifest, const struct session *session)
{
	struct record_session record = {
		.number = session->number,
		.start = session->identity.start,
		.process = session->identity.process,
		.uid = session->identity.uid,
		.gid = session->identity.gid,
		.pid = (uint32_t)session->identity.pid,
		.last_handle = session->last_handle,
	};

	memcpy(record.token, session->token, sizeof(record.token));
	manifest_append(manifest, RECORD_SESSION, &record, sizeof(record), session->command,
			strlen(session->command));
}

static void append_attachment(struct manifest *manifest, const struct attachment *attachment)
{
	const struct record_attachment record = {
		.session = attachment->session->number,
		.object = attachment->region->segments.id,
		.handle = attachment->handle,
		.slot = attachment->use ? (uint16_t)attachment->use->member->slot
					: attachment->slot,
		.access = attachment->access,
	};

	manifest_append(manifest, RECORD_ATTACHMENT, &record, sizeof(record), NULL, 0);
}

static void append_done(struct manifest *manifest, const struct session *session,
			const struct done *done)
{
	const struct record_done record = { .session = session->number,
					    .msgid = done->msgid,
					    .handle = done->handle,
					    .created = done->created };

	manifest_append(manifest, RECORD_DONE, &record, sizeof(record), NULL, 0);
}

static void append_position(struct manifest *manifest, const struct session *session)
{
	const struct record_position record = { .session = session->number,
						.serial = session->list_serial };

	manifest_append(manifest, RECORD_POSITION, &record, sizeof(record), session->list_position,
			strlen(session->list_position));
}

static void append_ticket(struct manifest *manifest, const struct ticket *ticket)
{
	struct record_ticket record = { .number = ticket->number,
					.session = ticket->attachment->session->number,
					.handle = ticket->attachment->handle,
					.access = (uint8_t)ticket->access };

	memcpy(record.token, ticket->token, sizeof(record.token));
	manifest_append(manifest, RECORD_TICKET, &record, sizeof(record), NULL, 0);
}

static void append_end(struct broker *broker, enum record_type type, uint64_t id, uint64_t handle)
{
	const struct record_end record = { .id = id, .handle = handle };

	manifest_append(&broker->manifest, type, &record, sizeof(record), NULL, 0);
}

/* ---- As it happens ---- */

void remember_arena(struct broker *broker, const struct arena *arena)
{
	append_arena(&broker->manifest, arena);
}

void remember_object(struct broker *broker, const struct region *region)
{
	append_object(&broker->manifest, region);
}

uint64_t remember_object_bytes(const struct region *region)
{
	size_t text = strlen(region->name) + (region->path ? 1 + strlen(region->path) : 0);

	return manifest_record_bytes(sizeof(struct record_object), text);
}

void remember_removed(struct broker *broker, const struct region *region)
{
	append_end(broker, RECORD_OBJECT_REMOVED, region->segments.id, 0);
}

void remember_size(struct broker *broker, const struct region *region)
{
	const struct record_size record = { .id = region->segments.id,
					    .size = region->size,
					    .resizing = region->resizing };

	manifest_append(&broker->manifest, RECORD_SIZE, &record, sizeof(record), NULL, 0);
}

void remember_session(struct broker *broker, struct session *session)
{
	manifest_owe(&broker->manifest, OWED_END);
	append_session(&broker->manifest, session);
}

void remember_attachment(struct broker *broker, struct attachment *attachment)
{
	if (!attachment->remembered)
		manifest_owe(&broker->manifest, OWED_END);
	attachment->remembered = true;
	append_attachment(&broker->manifest, attachment);
}

void remember_position(struct broker *broker, const struct session *session)
{
	if (remember_reserve(broker, false) == 0)
		append_position(&broker->manifest, session);
}

void remember_done(struct broker *broker, struct session *session, uint32_t msgid, uint32_t handle,
		   bool created)
{
	const struct done *done = session_add_done(session, msgid, handle, created);

	if (done)
		append_done(&broker->manifest, session, done);
}

void remember_ticket(struct broker *broker, const struct ticket *ticket)
{
	append_ticket(&broker->manifest, ticket);
}

void forget_ticket(struct broker *broker, const struct ticket *ticket)
{
	append_end(broker, RECORD_TICKET_END, ticket->number, 0);
}

void forget_arena(struct broker *broker, const struct arena *arena)
{
	append_end(broker, RECORD_ARENA_END, arena->segments.id, 0);
}

void forget_object(struct broker *broker, const struct region *region)
{
	append_end(broker, RECORD_OBJECT_END, region->segments.id, 0);
}

void forget_session(struct broker *broker, struct session *session)
{
	manifest_owe(&broker->manifest, -OWED_END);
	append_end(broker, RECORD_SESSION_END, session->number, 0);
}

void forget_attachment(struct broker *broker, struct attachment *attachment)
{
	if (!attachment->remembered)
		return;
	manifest_owe(&broker->manifest, -OWED_END);
	append_end(broker, RECORD_ATTACHMENT_END, attachment->session->number, attachment->handle);
}

/* ---- All of it ---- */

static void append_of_session(struct manifest *manifest, const struct session *session)
{
	struct attachment *attachment, *next;
	struct ticket *ticket;

	append_session(manifest, session);
	HASH_ITER(hh, session->attachments, attachment, next) {
		if (!attachment->remembered)
			continue;
		append_attachment(manifest, attachment);
		DL_FOREACH(attachment->tickets, ticket)
			append_ticket(manifest, ticket);
	}
	for (unsigned i = 0; i < session->n_done; i++)
		append_done(manifest, session, session_done_at(session, i));
	if (session->list_position)
		append_position(manifest, session);
}

static void append_all(struct manifest *manifest, void *userdata)
{
	struct broker *broker = userdata;
	struct session *session, *next;
	struct region *region;
	struct arena *arena;

	DL_FOREACH(broker->arenas, arena)
		append_arena(manifest, arena);
	DL_FOREACH2(broker->regions.all, region, next)
		append_object(manifest, region);
	HASH_ITER(hh, broker->sessions, session, next)
		append_of_session(manifest, session);
}

int remember_rewrite(struct broker *broker, const char *directory)
{
	const struct manifest_origin origin = { .instance = broker->instance.id,
						.next_id = broker->regions.next_id,
						.next_session = broker->next_session,
						.recoveries = broker->recoveries };

	return manifest_write(&broker->manifest, directory, &origin, append_all, broker);
}

/* A turn of the loop is over: nothing is half done. */
static void on_turn(uv_prepare_t *prepare)
{
	struct broker *broker = prepare->data;
	int result;

	manifest_commit(&broker->manifest);
	if (!manifest_is_due(&broker->manifest) || uv_now(&broker->loop) < broker->rewrite_again_ms)
		return;
	result = remember_rewrite(broker, NULL);
	if (result < 0) {
		log_begin(LOG_MANIFEST, strerror(-result));
		broker->rewrite_again_ms = uv_now(&broker->loop) + AGAIN_MS;
	} else {
		log_end(LOG_MANIFEST);
	}
}

void remember_start(struct broker *broker)
{
	uv_prepare_init(&broker->loop, &broker->turn);
	broker->turn.data = broker;
	uv_prepare_start(&broker->turn, on_turn);
	uv_unref((uv_handle_t *)&broker->turn);
}

void remember_stop(struct broker *broker)
{
	uv_close((uv_handle_t *)&broker->turn, NULL);
}
