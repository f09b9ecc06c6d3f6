/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_H
#define CLIENT_MAP_H

/*
 * Putting segments into the address space, and what can be asked of their pages there; the only
 * place that knows how the system does it. What differs between Unix systems is behind
 * map_system.h.
 *
 * Offsets and lengths of ranges are in bytes, lie within the mapping, and are widened to whole
 * units. Functions that return an int return 0 or an SHMB_E....
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shmbroker/memory.h>

/* How a segment is to be mapped. All zero: for reading, shared, not in core dumps. */
struct map_how {
	bool writable;
	bool dump;      /* include it in core dumps */
	bool private;   /* copy on write */
	bool no_access; /* neither for reading nor for writing */
	bool executable;
	bool sync;       /* MAP_SYNC */
	bool short_file; /* it may end before what is mapped: that is what the guard is for */
	bool huge;       /* huge pages where the system has them for this memory */
	void *address;   /* there or nowhere; NULL: anywhere */
};

struct mapping {
	void *data;
	size_t length;  /* whole units */
	size_t unit;    /* a page of it: what starts and lengths of parts have to be multiples of */
	int protection; /* PROT_... as it was mapped */
	bool writable;
	bool private;
	bool dump;
	bool sync;
};

/* map_page_size() - bytes of an ordinary page of memory */
size_t map_page_size(void);

/*
 * map_data() - map the first @bytes of a segment
 * @fd: borrowed; not needed after
 *
 * Return: 0, SHMB_ENOMEM, SHMB_EPROTO (@fd is not a segment of that size and access), or with
 *   address    SHMB_EINVAL (not a multiple of the unit), SHMB_EEXIST (something is mapped there)
 *   executable SHMB_EACCES
 *   sync       SHMB_ENOTSUP
 */
int map_data(int fd, uint64_t bytes, const struct map_how *how, struct mapping *ret_mapping);

/* map_segment() - the same for memory of the library's own, shared. Return: 0, SHMB_ENOMEM or
 * SHMB_EPROTO. */
int map_segment(int fd, uint64_t bytes, bool writable, bool dump, struct mapping *ret_mapping);

/*
 * map_detach() - let go of the segment, keep the addresses
 *
 * From now on they show private zeros, so that a thread that is just using them does not crash.
 *
 * Return: false if the system has no memory for even that: the segment stays mapped until
 * map_release().
 */
bool map_detach(struct mapping *mapping);

/* map_zeros() - the same for a part of it, whole units. Callable from signal handlers. */
bool map_zeros(const struct mapping *mapping, uint64_t offset, uint64_t length);

/*
 * map_again() - a part that map_zeros() has taken shows the segment again
 * @fd: as given to map_data(); borrowed
 *
 * Return: 0, SHMB_EBUS (nothing is there (yet): zeros again), or SHMB_ENOMEM.
 */
int map_again(const struct mapping *mapping, int fd, uint64_t offset, uint64_t length);

/* map_release() - unmap; a zeroed or released mapping is ignored */
void map_release(struct mapping *mapping);

/*
 * map_reserve() - allocate the first @bytes of a segment now
 *
 * Return: 0, SHMB_ENOSPC, SHMB_ENOMEM, SHMB_EDQUOT, SHMB_EIO, ...
 */
int map_reserve(int fd, uint64_t bytes);

/*
 * map_flush() - write a range of a file back
 * @fd:    of the file, borrowed; -1: there is none, which some systems can do without
 * @start: only ask for it
 *
 * Return: 0, SHMB_EIO, SHMB_ENOSPC, SHMB_EDQUOT, ...
 */
int map_flush(const struct mapping *mapping, int fd, uint64_t offset, uint64_t length, bool start);

/* ---- Pages of a range ---- */

/*
 * map_touch() - make them present
 * @write: for writing, too; no byte changes
 *
 * Return: 0, SHMB_ENOMEM, SHMB_EBUS, SHMB_EACCES (its protection forbids it).
 */
int map_touch(const struct mapping *mapping, uint64_t offset, uint64_t length, bool write);

/*
 * map_pin() - keep them in memory
 * @ret_limit: with SHMB_EDQUOT the limit, in bytes
 *
 * Return: 0, SHMB_EDQUOT, SHMB_ENOMEM, SHMB_EBUS, SHMB_EACCES.
 */
int map_pin(const struct mapping *mapping, uint64_t offset, uint64_t length, uint64_t *ret_limit);
int map_unpin(const struct mapping *mapping, uint64_t offset, uint64_t length);

/* map_advise() - Return: 0, SHMB_ENOTSUP (not on this system), SHMB_EINVAL (not for this memory),
 * SHMB_EACCES, SHMB_EBUSY, SHMB_ENOMEM, SHMB_EIO, ... */
int map_advise(const struct mapping *mapping, uint64_t offset, uint64_t length,
	       enum shmb_advice advice);

/* map_prefetch() - read a range of a file ahead */
int map_prefetch(int fd, uint64_t offset, uint64_t length);

/* map_protect() - @protection: enum shmb_protection, ored. Return: 0, SHMB_EACCES, SHMB_ENOMEM. */
int map_protect(const struct mapping *mapping, uint64_t offset, uint64_t length,
		unsigned protection);

/* map_huge() - what the first @bytes are made of, as far as they are present: enum shmb_answer */
int map_huge(const struct mapping *mapping, uint64_t bytes);

/*
 * map_make_huge() - all of the mapping present, and of huge pages
 *
 * Return: 0, SHMB_ENOTSUP (some of it cannot be), SHMB_ENOMEM, SHMB_EBUS.
 */
int map_make_huge(const struct mapping *mapping);

/* map_huge_unit() - bytes of a transparent huge page; 0: there are none */
size_t map_huge_unit(void);

/* ---- What the system can do ---- */

/* Return: 1, 0, or SHMB_EINVAL. */
int map_supports(enum shmb_feature feature);
bool map_supports_advice(enum shmb_advice advice);

#endif
