/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_SEMAPHORE_H
#define SHMBROKER_SEMAPHORE_H

/*
 * Named semaphores, counting and owned. Part of <shmbroker/shmbroker.h>, whose first comment holds
 * here, too.
 */

#include <shmbroker/shmbroker.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* ---- Named semaphores ---- */

enum shmb_semaphore_kind {
	SHMB_COUNTING = 1, /* as POSIX: no owner; for signals and bounded buffers */
	SHMB_OWNED = 2, /* N permits that each know their holder and come back when it dies or lets
			   go: mutexes, pools */
};

struct shmb_semaphore_options {
	size_t struct_size;
	enum shmb_semaphore_kind kind; /* default SHMB_COUNTING */
	uint32_t mode;                 /* octal; using it needs SHMB_LOCK. Default 0700 */
	enum shmb_lifetime lifetime;   /* default SHMB_ATTACHED */
	uint32_t initial; /* counting: the value it begins with, 0 to @maximum. Not for owned */
	uint32_t maximum; /* counting: 1 to 2147483647, 0: that; owned: permits, 1 to 1024, 0: 1 */
};

#define SHMB_SEMAPHORE_OPTIONS_INIT                                                             \
	{                                                                                       \
		sizeof(struct shmb_semaphore_options), SHMB_COUNTING, 0700, SHMB_ATTACHED, 0, 0 \
	}

/**
 * shmb_semaphore_create(), shmb_semaphore_open(), shmb_semaphore_open_or_create() - a named
 * semaphore
 * @name:          see "Names" above
 * @options:       NULL for the defaults
 * @ret_semaphore: give it back with shmb_semaphore_free()
 *
 * Semaphores of one owner, group and mode share memory: one costs 64 bytes (owned: 16 and 4 for
 * each permit), no descriptor and no mapping of its own; a client maps 256 KiB for each 3,072 of
 * them.
 *
 * Return: as for named locks. SHMB_ESLOTS: more than 1,023 clients use semaphores of this owner,
 * group and mode. SHMB_EKIND: the name is no semaphore's, or with open_or_create one of the other
 * kind.
 */
int shmb_semaphore_create(struct shmb_client *client, const char *name,
			  const struct shmb_semaphore_options *options,
			  struct shmb_semaphore **ret_semaphore);
int shmb_semaphore_open(struct shmb_client *client, const char *name,
			struct shmb_semaphore **ret_semaphore);
int shmb_semaphore_open_or_create(struct shmb_client *client, const char *name,
				  const struct shmb_semaphore_options *options,
				  struct shmb_semaphore **ret_semaphore);

/** shmb_semaphore_free() - let go. The permits that this client holds come back when it has let go
 * of its last handle of this semaphore. NULL is fine. Return: NULL. */
struct shmb_semaphore *shmb_semaphore_free(struct shmb_semaphore *semaphore);

/**
 * shmb_semaphore_wait() - take one: sem_wait(), and with a timeout of 0 sem_trywait()
 * @timeout_ms: milliseconds; 0 tries, -1 waits without a limit
 *
 * Owned: takes any permit; to know which, shmb_semaphore_take(). Makes no system call if there is
 * one.
 *
 * Return: 0, or SHMB_ETIMEDOUT.
 */
int shmb_semaphore_wait(struct shmb_semaphore *semaphore, int timeout_ms);

/**
 * shmb_semaphore_post() - give @n at once
 * @n: 1 or more
 *
 * Owned: gives back permits that this client holds, the lowest first. Makes no system call unless
 * somebody sleeps.
 *
 * Return: 0, SHMB_EINVAL (0), or SHMB_EOVERFLOW: the value would pass the maximum, or the client
 * holds fewer permits. Nothing was given then, unless another thread of the client gave some of
 * those permits meanwhile.
 */
int shmb_semaphore_post(struct shmb_semaphore *semaphore, uint32_t n);

/** shmb_semaphore_value() - the count, or how many permits are free; it may have changed when this
 * returns. Return: 0 or more, or an error. */
int64_t shmb_semaphore_value(struct shmb_semaphore *semaphore);

/** One permit of an owned semaphore, as of one taking. May be handed to other processes. */
struct shmb_permit {
	uint32_t index; /* 0 to permits - 1: the buffer of a pool, say */
	uint32_t serial;
};

/**
 * shmb_semaphore_take() - take a permit, and learn which
 *
 * Permits belong to the client: to all its threads and handles, and to no other client.
 *
 * Return: 0, SHMB_ETIMEDOUT, or SHMB_EKIND (a counting semaphore).
 */
int shmb_semaphore_take(struct shmb_semaphore *semaphore, int timeout_ms,
			struct shmb_permit *ret_permit);

/** shmb_semaphore_give() - give back a permit that this client took or adopted. Return: 0,
 * SHMB_EINVAL (it does not hold it, or not since that taking), SHMB_EKIND. */
int shmb_semaphore_give(struct shmb_semaphore *semaphore, const struct shmb_permit *permit);

/**
 * shmb_semaphore_adopt() - become the holder of a permit that another client holds
 *
 * For handing a buffer on: the one who took it puts the permit into a queue, and whoever takes it
 * out adopts it, in one step: at every instant exactly one of the two holds it. The old holder
 * agrees by putting it there; nothing else asks it.
 *
 * Return: 0, SHMB_ENOENT (it came back meanwhile: its holder died or gave it back), SHMB_EINVAL (no
 * such index), SHMB_EKIND.
 */
int shmb_semaphore_adopt(struct shmb_semaphore *semaphore, const struct shmb_permit *permit);

/** shmb_semaphore_remove() - take the name away. Return: 0, SHMB_EINVAL, SHMB_ENOENT, SHMB_EACCES,
 * SHMB_EKIND. */
int shmb_semaphore_remove(struct shmb_client *client, const char *name);

struct shmb_semaphore_info {
	size_t struct_size;
	char name[SHMB_NAME_MAX + 1];
	uint64_t id;
	enum shmb_semaphore_kind kind;
	uint32_t uid, gid, mode;
	enum shmb_lifetime lifetime;
	uint32_t attachments;       /* handles that are open */
	uint32_t value;             /* the count, or free permits */
	uint32_t maximum;           /* or permits in all */
	uint32_t waiting;           /* threads that sleep for it */
	struct shmb_process holder; /* owned: of one of the permits that are taken, else zeros */
};

/** shmb_semaphore_stat(), shmb_semaphore_list() - look at one, or walk those that the caller may
 * know of, ordered by name, as with locks. */
int shmb_semaphore_stat(struct shmb_client *client, const char *name,
			struct shmb_semaphore_info *ret_info);
typedef int (*shmb_semaphore_list_fn)(const struct shmb_semaphore_info *info, void *userdata);
int shmb_semaphore_list(struct shmb_client *client, const char *prefix,
			shmb_semaphore_list_fn callback, void *userdata);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
