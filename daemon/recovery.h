/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RECOVERY_H
#define DAEMON_RECOVERY_H

/* Between the parts of recovery: what was found in the manifest, and what became of it. */

#include "backing.h"
#include "manifest.h"
#include "records.h"
#include "table.h"

#include <stdbool.h>
#include <stddef.h>

struct activation;
struct arena;
struct broker;
struct region;
struct session;

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

/* ---- recover_read.c ---- */

/* recovery_read() - find the latest record of each thing */
void recovery_read(struct recovery *recovery);

/* recovery_read_all() - all records, in the order in which they were written */
void recovery_read_all(struct recovery *recovery,
		       void (*take)(struct recovery *recovery, const struct record *record));

/* recovery_deinit() - free what was found; not what it has become */
void recovery_deinit(struct recovery *recovery);

/* ---- recover_place.c ---- */

/* recovery_claim() - an object in /dev/shm, for backing_shm_sweep(). Return: is it one of ours? */
bool recovery_claim(void *recovery, uint64_t id, enum segment which, uint32_t generation);

/* recovery_place() - put everything where it was */
void recovery_place(struct recovery *recovery);

#endif
