/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RECORDS_H
#define DAEMON_RECORDS_H

/*
 * What the manifest remembers, as it lies in the file. Little is nested and nothing refers to a
 * place in the file: an object, a session, an attachment has its latest record, or has ended.
 *
 * Records grow at their end. A shorter one is of an older daemon, and reads as if the rest were
 * zero; so what a new field says with zero is what there was before it. A text may follow the
 * struct: the name of an object (and behind a NUL the path of its file), what a session calls
 * itself.
 */

#include <stdint.h>

/* A build may claim a later version, to test what old and new make of each other. */
#ifndef MANIFEST_VERSION
#define MANIFEST_VERSION 1
#endif

enum { RECORD_SEGMENTS = 3, PATH_BYTES = 1023 };

enum record_type {
	RECORD_ARENA = 1,
	RECORD_ARENA_END,      /* struct record_end */
	RECORD_OBJECT,         /* region, lock or semaphore; again when something of it changes */
	RECORD_OBJECT_REMOVED, /* struct record_end: its name is gone */
	RECORD_OBJECT_END,     /* struct record_end */
	RECORD_SIZE,
	RECORD_SESSION,
	RECORD_SESSION_END, /* struct record_end */
	RECORD_ATTACHMENT,
	RECORD_ATTACHMENT_END, /* struct record_end: session and handle */
	RECORD_DONE,
	RECORD_POSITION,
	RECORD_TICKET,
	RECORD_TICKET_END, /* struct record_end: its number */
};

struct record_end {
	uint64_t id, handle;
};

struct record_segment {
	uint64_t inode; /* memfd; 0: not made, or found by its name */
	uint32_t store; /* number in the service manager's store; 0: not there */
	uint32_t made;
};

struct record_arena {
	uint64_t id;
	struct record_segment segment;
	uint32_t uid, gid, mode, backing;
#if MANIFEST_VERSION > 1
	uint64_t later;
#endif
};

/* What is of no use to its kind is zero. */
struct record_object {
	uint64_t id;
	uint64_t size, capacity;
	int64_t created;
	uint64_t creator; /* session that it ends with */
	uint64_t arena;
	struct record_segment segments[RECORD_SEGMENTS]; /* by enum segment */
	uint32_t uid, gid;
	uint32_t unit, maximum; /* of a semaphore */
	uint16_t mode, n_slots;
	uint8_t kind, lifetime, backing, semaphore_kind;
	uint8_t removed, resizing, zero[6];
	uint32_t metadata, deaths;    /* counters, see watch.c */
	struct record_segment reader; /* of a file, the descriptor for readers */
	uint32_t generation;          /* of the data segment */
	uint8_t data;                 /* backing of the data; 0: as the rest */
	uint8_t read_only, zero2[2];
#if MANIFEST_VERSION > 1
	uint64_t later;
#endif
};

struct record_size {
	uint64_t id, size;
	uint64_t
		resizing; /* the publish page may not say so yet, or memory has to be punched out */
};

struct record_session {
	uint64_t number;
	uint64_t start, process; /* see identity.h */
	uint8_t token[16];
	uint32_t uid, gid, pid;
	uint32_t last_handle;
};

struct record_attachment {
	uint64_t session, object;
	uint32_t handle;
	uint16_t slot; /* in the lock, or of the session in the semaphore's arena */
	uint8_t access, zero;
};

/* A request that changed something was answered well. */
struct record_done {
	uint64_t session;
	uint32_t msgid, handle;
	uint8_t created, zero[7];
};

/* Of an attachment. */
struct record_ticket {
	uint64_t number, session;
	uint32_t handle;
	uint8_t access, zero[3];
	uint8_t token[16];
};

/* Where a listing goes on; the text is the name. */
struct record_position {
	uint64_t session, serial;
};

#endif
