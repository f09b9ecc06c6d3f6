/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_LOCK_H
#define SHMBROKER_LOCK_H

/*
 * Locks: every region has one, and there are named locks without data. Part of
 * <shmbroker/shmbroker.h>, whose first comment holds here, too.
 */

#include <shmbroker/shmbroker.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* ---- The lock of a region ----
 *
 * Shared (many readers) or exclusive (one writer). It needs SHMB_LOCK, which SHMB_WRITE implies. It
 * is exact under kill -9: whatever instruction a process dies at, the broker undoes precisely what
 * it held, and others go on within about a millisecond. A holder that is stopped is alive: nobody
 * breaks its lock.
 *
 * Owner death. If an exclusive holder dies, or closes the handle, the data may be half-written
 * (whatever its access was: nobody else can know what it was in the middle of). The next exclusive
 * locker then gets SHMB_EOWNERDEAD *with the lock held*: it puts the data right, calls
 * shmb_region_mark_consistent() and unlocks. Shared lockers get SHMB_EOWNERDEAD and no lock until
 * that has happened. A holder with SHMB_WRITE that unlocks without it leaves the lock not
 * recoverable, and all lockers get SHMB_ENOTRECOVERABLE until shmb_region_reset_lock().
 *
 * Fairness. A lock that is free goes to who comes first. Who has waited for as long as it may spin
 * asks for its turn; turns are given in the order in which they were asked for, and a writer lets
 * those have theirs first. (One that is stopped when its turn comes loses it after a millisecond. A
 * try, and the last look at a deadline, take a lock that is free without letting anybody go first.)
 * A writer that has come so far that it only waits for readers to leave bars new ones. So neither
 * readers nor writers that run starve.
 *
 * Threads. Several threads may use one handle; each unlocks what it locked, shared locks are
 * counted. A thread that asks for the lock while it holds it exclusively gets SHMB_EDEADLK. One
 * that holds it shared and asks for it exclusively is not found out, and waits for itself.
 *
 * Slots. The lock has a table of slots (struct shmb_region_options.slots), one for each handle that
 * locks. A handle gets its slot at the first locking call, which asks the broker (and so may block
 * for the client's timeout, whatever its own), or already when it is opened with SHMB_LOCK in its
 * access, unless asynchronously.
 */

enum shmb_lock_kind {
	SHMB_SHARED = 1,
	SHMB_EXCLUSIVE = 2,
};

/**
 * shmb_region_lock() - take the lock
 * @timeout_ms: milliseconds; 0 tries, -1 waits without a limit
 *
 * Makes no system call where nobody is in the way. What the last exclusive holder wrote is visible.
 *
 * Return: 0 (held), or
 *   SHMB_EOWNERDEAD       exclusive: held, but put the data right first; shared: not held
 *   SHMB_ENOTRECOVERABLE  not held, see above
 *   SHMB_ETIMEDOUT        not held in time
 *   SHMB_EDEADLK          this thread holds it exclusively
 *   SHMB_EMODE            the handle was opened for neither writing nor locking
 *   SHMB_EINVAL           bad @kind
 *   SHMB_ESLOTS           first use: as many handles as there are slots use the lock already
 *   SHMB_EDQUOT, SHMB_ENOMEM, SHMB_EMFILE, SHMB_ENFILE, SHMB_ETOOMANYREFS  first use: resources
 */
int shmb_region_lock(struct shmb_region *region, enum shmb_lock_kind kind, int timeout_ms);

/**
 * shmb_region_unlock() - give the lock back, shared or exclusive
 *
 * Makes no system call unless somebody sleeps. Return: 0, or SHMB_EINVAL (it is not held).
 */
int shmb_region_unlock(struct shmb_region *region);

/**
 * shmb_region_downgrade() - turn an exclusive lock into a shared one, with nobody in between
 *
 * Return: 0, SHMB_EINVAL (not held exclusively), or SHMB_EOWNERDEAD (mark it consistent first;
 * still held exclusively).
 */
int shmb_region_downgrade(struct shmb_region *region);

/**
 * shmb_region_mark_consistent() - the data are right again
 *
 * For a holder that got SHMB_EOWNERDEAD, any time before it unlocks; twice does no harm. Needs
 * SHMB_WRITE.
 *
 * Return: 0, SHMB_EINVAL (not held exclusively), SHMB_EMODE.
 */
int shmb_region_mark_consistent(struct shmb_region *region);

/**
 * shmb_region_reset_lock() - give a lock that is not recoverable another chance
 *
 * The next exclusive locker gets SHMB_EOWNERDEAD again. Needs SHMB_WRITE.
 *
 * Return: 0, SHMB_EINVAL (it is not in that state), SHMB_EMODE, or what the first use may return.
 */
int shmb_region_reset_lock(struct shmb_region *region);

/**
 * shmb_region_snapshot() - copy a range as it was at one moment, with read access alone
 * @offset, @length: bytes
 *
 * Untorn with respect to those who write under the exclusive lock. Takes no lock and disturbs
 * nobody: copies, and looks whether somebody wrote meanwhile.
 *
 * Return: 0, or
 *   SHMB_EBOUNDS          the range is not within the region
 *   SHMB_EBUSY            held exclusively by a writer at every try, for some milliseconds; @buffer
 *                         means nothing. Try again after the next publish, or later.
 *   SHMB_EOWNERDEAD       its writer died, and nobody has put the data right yet
 *   SHMB_ENOTRECOVERABLE  its writer died, and the next one gave the lock back without doing so
 */
int shmb_region_snapshot(struct shmb_region *region, uint64_t offset, void *buffer, size_t length);

/* ---- Named locks ---- */

struct shmb_lock_options {
	size_t struct_size;
	uint32_t mode; /* create: octal, digits of enum shmb_access; using it needs SHMB_LOCK. 0700
			*/
	enum shmb_lifetime lifetime; /* create; default SHMB_ATTACHED */
	uint32_t slots; /* create: handles that can be open at a time, 1 to 1024; 0: 62 */
};

#define SHMB_LOCK_OPTIONS_INIT                                           \
	{                                                                \
		sizeof(struct shmb_lock_options), 0700, SHMB_ATTACHED, 0 \
	}

/**
 * shmb_lock_create(), shmb_lock_open(), shmb_lock_open_or_create() - a lock without data
 * @name:     see "Names" above
 * @options:  NULL for the defaults
 * @ret_lock: give it back with shmb_lock_free()
 *
 * As with regions: create fails if the name is taken, open if there is none, open_or_create returns
 * 1 if it made the lock. For thousands of small mutexes, owned semaphores of one permit cost less.
 *
 * Return: 0 (or 1), or SHMB_EINVAL, SHMB_EEXIST, SHMB_ENOENT, SHMB_EACCES, SHMB_EDQUOT,
 * SHMB_ENOSPC, SHMB_EKIND (the name is a region's or a semaphore's), SHMB_ESLOTS, or resources, as
 * for regions.
 */
int shmb_lock_create(struct shmb_client *client, const char *name,
		     const struct shmb_lock_options *options, struct shmb_lock **ret_lock);
int shmb_lock_open(struct shmb_client *client, const char *name, struct shmb_lock **ret_lock);
int shmb_lock_open_or_create(struct shmb_client *client, const char *name,
			     const struct shmb_lock_options *options, struct shmb_lock **ret_lock);

/** shmb_lock_free() - let go; a lock held exclusively counts as abandoned: "owner died". NULL is
 * fine. Return: NULL. */
struct shmb_lock *shmb_lock_free(struct shmb_lock *lock);

/* The same as for a region's lock; whoever may use a named lock may also mark and reset it. */
int shmb_lock_acquire(struct shmb_lock *lock, enum shmb_lock_kind kind, int timeout_ms);
int shmb_lock_release(struct shmb_lock *lock);
int shmb_lock_downgrade(struct shmb_lock *lock);
int shmb_lock_mark_consistent(struct shmb_lock *lock);
int shmb_lock_reset(struct shmb_lock *lock);

/** shmb_lock_remove() - take the name away; those who have it open keep it. Return: 0, SHMB_EINVAL,
 * SHMB_ENOENT, SHMB_EACCES, SHMB_EKIND. */
int shmb_lock_remove(struct shmb_client *client, const char *name);

/** What a lock looked like a moment ago: a region's that was used, or a named one. */
struct shmb_lock_info {
	size_t struct_size;
	char name[SHMB_NAME_MAX + 1];
	uint64_t id;
	int is_region; /* the lock of a region */
	uint32_t uid, gid, mode;
	enum shmb_lifetime lifetime;
	uint32_t attachments; /* handles of the region or lock */
	uint32_t slots, slots_used;
	int held;                   /* exclusively, by @holder */
	int pending;                /* @holder waits for readers to leave */
	uint32_t readers;           /* shared locks held */
	uint32_t waiting_shared;    /* threads */
	uint32_t waiting_exclusive; /* threads */
	int owner_died;             /* nobody has put the data right yet */
	int not_recoverable;
	struct shmb_process holder; /* exclusive, else one of the readers, else zeros */
};

/** shmb_lock_stat() - look at a lock: of a region, or named. Return: 0, SHMB_EINVAL, SHMB_ENOENT,
 * SHMB_EKIND (a semaphore). */
int shmb_lock_stat(struct shmb_client *client, const char *name, struct shmb_lock_info *ret_info);

/** One lock of a list; @info is valid during the call. Non-zero ends the walk. */
typedef int (*shmb_lock_list_fn)(const struct shmb_lock_info *info, void *userdata);

/** shmb_lock_list() - walk the locks that the caller may know of, ordered by name, as
 * shmb_region_list(): named ones, and those of regions that somebody has locked. */
int shmb_lock_list(struct shmb_client *client, const char *prefix, shmb_lock_list_fn callback,
		   void *userdata);

/* ---- Who holds and who waits ---- */

/** One client's part in a lock or semaphore. */
struct shmb_holder {
	size_t struct_size;
	struct shmb_process process;
	int exclusive;    /* locks: holds it exclusively, or waits only for readers to leave */
	uint32_t shared;  /* locks: shared locks held */
	uint32_t permits; /* owned semaphores: held */
	uint32_t waiting; /* threads that wait, for either kind of lock or for the semaphore */
	int condemned;    /* the broker dropped its connection; its process lives */
};

typedef int (*shmb_holders_fn)(const struct shmb_holder *holder, void *userdata);

/**
 * shmb_client_holders() - walk the clients that hold something of an object or wait for it
 * @name: of a region, lock or semaphore
 *
 * Return: 0, what @callback returned if that was not 0, SHMB_EINVAL, SHMB_ENOENT.
 */
int shmb_client_holders(struct shmb_client *client, const char *name, shmb_holders_fn callback,
			void *userdata);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
