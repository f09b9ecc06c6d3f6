/* SPDX-License-Identifier: MIT */
#ifndef LAYOUT_PUBLISH_H
#define LAYOUT_PUBLISH_H

/*
 * The publish page: one page of shared memory beside a region's data, in which writers say "it
 * changed".
 *
 * Writable for those with write access, read-only for the others, written by the broker in a way
 * that a client can neither fault nor hang. All words are in the machine's byte order. Whoever can
 * write the region can write anything here: readers clamp and bound whatever they take from it.
 *
 * The algorithms over the page are in publish.c, pure but for the futex call that the caller makes.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LAYOUT_PUBLISH_MAGIC = 0x626d6873, /* "shmb" */
	LAYOUT_PUBLISH_VERSION = 1,
	LAYOUT_PUBLISH_RANGES = 8,
	LAYOUT_PUBLISH_BYTES = 4096, /* on every system; a segment is rounded up to the page size */
};

/* In a range's stamp: somebody is writing the range. */
#define LAYOUT_RANGE_WRITING (UINT64_C(1) << 63)

/* The range that one publish gave. Claimed by a publisher through its stamp, see publish.c. */
struct layout_range {
	_Atomic uint64_t stamp; /* the sequence it belongs to; LAYOUT_RANGE_WRITING set while it is
				   being written */
	_Atomic uint64_t offset;
	_Atomic uint64_t length;
	uint64_t reserved;
};

struct layout_publish {
	/* 0: written by the broker alone; clients only read */
	uint32_t magic;
	uint32_t version;
	_Atomic uint64_t size; /* bytes in use; a hint: clamp it to the capacity */
	_Atomic uint32_t
		readers; /* not 0 while read-only attachments exist: publishing must wake */
	_Atomic uint32_t removed;    /* not 0 once the name is gone */
	_Atomic uint32_t generation; /* of the data segment: once it differs, ask for the new one */
	uint8_t reserved0[36];

	/* 64: the hand-over, one cache line */
	_Atomic uint64_t sequence; /* publishes so far; the futex is its low half */
	_Atomic uint32_t sleepers; /* 0: nobody; else twice the sequence, plus one, at which a
				      writer last said that it would sleep, cleared by a later
				      publisher, who wakes; see publish.c */
	_Atomic uint32_t armed; /* set to 1 by the broker for a watch, cleared by the publisher that
				   tells it */
	_Atomic uint32_t ranged; /* not 0 once any publish has given a range */
	uint8_t reserved1[44];

	/* 128 */
	struct layout_range ranges[LAYOUT_PUBLISH_RANGES];

	/* 384: for snapshots, one cache line; see snapshot.h */
	_Atomic uint64_t writing; /* odd: somebody with write access holds the lock exclusively */
	_Atomic uint32_t consistency; /* enum layout_consistency */
	uint8_t reserved2[52];

	/* 448 */
	_Atomic uint32_t flush_errors; /* times that a writer could not write its file back */
	uint8_t reserved3[LAYOUT_PUBLISH_BYTES - 452];
};

/* What an exclusive holder's death has left; the lock's own word is what lockers go by. */
enum layout_consistency {
	LAYOUT_CONSISTENT = 0,
	LAYOUT_OWNER_DIED = 1,      /* set by the broker */
	LAYOUT_NOT_RECOVERABLE = 2, /* set by whoever gave the lock back without putting it right */
};

_Static_assert(sizeof(struct layout_publish) == LAYOUT_PUBLISH_BYTES,
	       "the publish page is one 4 KiB page");
_Static_assert(offsetof(struct layout_publish, sequence) == 64,
	       "the hand-over has a cache line of its own");
_Static_assert(offsetof(struct layout_publish, ranges) == 128, "ranges follow it");
_Static_assert(offsetof(struct layout_publish, writing) == 384, "snapshots have one, too");

/* What a publisher has to do after layout_publish(). */
enum layout_publish_duty {
	LAYOUT_DUTY_WAKE = 1, /* wake all sleepers on layout_publish_futex() */
	LAYOUT_DUTY_TELL = 2, /* send region.published; if that fails, layout_publish_rearm() */
};

/*
 * layout_publish() - count a publish
 * @offset, @length: what changed; 0, 0: anything
 *
 * Wait-free. Every byte the caller wrote before is visible to whoever sees the new sequence.
 *
 * Return: enum layout_publish_duty, ored.
 */
unsigned layout_publish(struct layout_publish *page, uint64_t offset, uint64_t length);

/* layout_publish_rearm() - the broker could not be told: leave it to the next publisher */
void layout_publish_rearm(struct layout_publish *page);

/* layout_publish_sequence() - the newest sequence; acquires what its publishers wrote */
uint64_t layout_publish_sequence(const struct layout_publish *page);

/* layout_publish_futex() - the word to sleep on: the low half of the sequence */
const uint32_t *layout_publish_futex(const struct layout_publish *page);

/* layout_publish_announce() - a waiter with write access says that it is about to sleep; check the
 * sequence after */
void layout_publish_announce(struct layout_publish *page);

/*
 * layout_publish_range() - the smallest range that covers every change after @seen up to @now
 *
 * Return: true with a range, or false: not known (some publish gave none, or too many ago), take
 * the whole region.
 */
bool layout_publish_range(const struct layout_publish *page, uint64_t seen, uint64_t now,
			  uint64_t *ret_offset, uint64_t *ret_length);

#endif
