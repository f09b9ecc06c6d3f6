/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_GUARD_H
#define CLIENT_GUARD_H

/*
 * Protection against SIGBUS: what the process-wide handler knows of the library's mappings, and
 * what it leaves behind. See "When memory vanishes" in <shmbroker/memory.h>.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "map.h"

/* A mapping that is guarded; zeroed: it is not. */
struct guarded {
	struct mapping mapping;  /* a copy */
	_Atomic uint32_t *state; /* where the handler says that something was lost */
	uint32_t lost_bit;       /* how it says so */
	uint32_t entry;          /* in the registry, plus one; 0: none */
	uint32_t generation;     /* see fork.h */
	/* Units that show private zeros, a bit each. Made by the handler; NULL: none was ever lost.
	 */
	_Atomic(_Atomic uint64_t *) lost;
	_Atomic uint32_t n_handling; /* threads in the handler, see guard_pause() */
	_Atomic bool paused;
	_Atomic uint32_t n_intruders; /* that did not wait any longer */
	uint32_t n_intruders_before;  /* the pause */
};

/*
 * guard_add() - guard a mapping from now on
 * @guarded: zeroed; stays where it is until guard_remove()
 * @state:   @lost_bit is set there when memory has vanished
 *
 * Return: 0, or SHMB_ENOMEM.
 */
int guard_add(struct guarded *guarded, const struct mapping *mapping, _Atomic uint32_t *state,
	      uint32_t lost_bit);

/* guard_remove() - when no thread touches the mapping any more, before its addresses become
 * another's; one that is not guarded is ignored */
void guard_remove(struct guarded *guarded);

/*
 * guard_find_lost() - has anything of a range vanished?
 * @ret_offset, @ret_length: the first such part, whole units
 */
bool guard_find_lost(const struct guarded *guarded, uint64_t offset, uint64_t length,
		     uint64_t *ret_offset, uint64_t *ret_length);

/*
 * guard_pause(), guard_resume() - in between the handler replaces nothing of this mapping: who
 * faults waits, for some seconds at most. One thread at a time.
 */
void guard_pause(struct guarded *guarded);
void guard_resume(struct guarded *guarded);

/*
 * guard_forget() - between the two: a part (whole units) shows the segment again
 *
 * Return: false: somebody has not waited since guard_pause(), and may have replaced some of it
 * again: it stays lost.
 */
bool guard_forget(struct guarded *guarded, uint64_t offset, uint64_t length);

/*
 * guard_install_once() - with the first region of a process that is to be guarded
 * @generation: of the process: a forked child may have set its handlers anew
 *
 * Return: 0, SHMB_ENOMEM or SHMB_ENOTSUP.
 */
int guard_install_once(uint32_t generation);

#endif
