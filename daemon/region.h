/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_REGION_H
#define DAEMON_REGION_H

/*
 * What has a name: regions, and in the same tree named locks and semaphores, which share names,
 * owners, modes, lifetimes and attachments with them. Everything the broker relies on is here,
 * nothing of it in memory that a client can write.
 */

#include "answer.h"
#include "backing.h"
#include "table.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv/tree.h>

struct account;
struct broker;
struct growth;
struct resize;
struct semaphore;
struct session;
struct slots;
struct ticket;
struct use;

enum object_kind { OBJECT_REGION = 1, OBJECT_LOCK, OBJECT_SEMAPHORE, OBJECT_KINDS };

struct attachment {
	struct region *region;
	struct session *session;
	uint32_t handle;
	uint16_t slot;       /* in the lock; 0: none */
	uint8_t access;      /* enum shmb_access */
	uint8_t watch_types; /* what the armed watch is for; 0: none armed */
	uint8_t watch_due;   /* of these, what happened that nothing else shows */
	bool watch_charged;  /* armed, or fired and not ended */
	bool remembered;     /* in the manifest */
	uint64_t watch_sequence, watch_size;
	struct ticket *tickets;             /* asked for with it, and not used yet */
	struct use *use;                    /* to a semaphore: its session's part in it */
	struct attachment *previous, *next; /* of the region's armed ones */
	UT_hash_handle hh;                  /* of the session, by handle */
};

struct region {
	RB_ENTRY(region) node;          /* by name, while it has one */
	struct region *previous, *next; /* of all */
	struct segments segments;       /* none, of a semaphore */
	struct slots *slots;            /* of the lock; NULL: nobody has locked it yet */
	struct semaphore *semaphore;    /* OBJECT_SEMAPHORE alone */
	struct account *account;        /* of the owner; charged for it */
	struct session *creator;        /* SHMB_SESSION: ends with it */
	struct region *creator_previous, *creator_next;
	struct region *dirty_previous, *dirty_next;
	struct attachment *armed;                       /* attachments with an armed watch */
	struct region *watched_previous, *watched_next; /* of those that have some */
	struct resize *resizes;                         /* waiting or under way, oldest first */
	struct growth *growth;   /* a larger data segment that is not in use yet; NULL: none */
	char *path;              /* owned: of its file, as its creator says; NULL: none */
	uint64_t size, capacity; /* bytes */
	uint64_t sequence;       /* as last seen; a client can make it lie about its own region */
	int64_t created;
	gid_t gid;
	uint32_t n_attachments, n_readers;
	uint32_t newest;           /* data segment that was begun, see growth.c */
	uint32_t metadata, deaths; /* how often they changed or happened, see watch.c */
	uint16_t mode;
	uint16_t n_slots; /* how many its lock has, or will have */
	uint8_t kind;     /* enum object_kind */
	uint8_t lifetime;
	bool removed;
	bool read_only; /* made of a file that nobody may write */
	bool resizing;  /* its page may not say so yet, or memory is being punched out */
	bool dirty;
	const char *name; /* behind this struct; "": it never has one */
};

RB_HEAD(region_tree, region);

struct regions {
	struct region_tree tree;
	struct region *all;
	struct region *watched; /* those with armed watches, the next to be looked at first */
	struct region *dirty;   /* a publisher of theirs has died; watchers are to be told */
	unsigned batching;
	uint64_t next_id;
	uint64_t counts[OBJECT_KINDS], n_attachments, n_watches, n_watched;
};

struct region_request {
	const char *name; /* NUL-terminated, checked; "": none */
	enum object_kind kind;
	uint64_t size, capacity; /* regions */
	uint32_t mode;
	unsigned lifetime, backing;
	uint32_t n_slots;          /* regions and locks */
	uint32_t initial, maximum; /* semaphores */
	unsigned semaphore_kind;   /* enum shmb_semaphore_kind */
	const char *path;          /* of a file; NULL: none */
	int *fds;       /* of a file, checked: for writers (if any), for readers; those taken are
			   set to -1 */
	bool read_only; /* a file that nobody may write */
};

/* region_find() - by name; NULL: none */
struct region *region_find(struct regions *regions, const char *name);

/* region_insert() - give an object its place by name, in recovery. Return: false: the name is
 * taken.
 */
bool region_insert(struct regions *regions, struct region *region);

/* region_next_from() - the first region whose name is @name or, with @after, comes behind it; NULL:
 * none */
struct region *region_next_from(struct regions *regions, const char *name, bool after);
struct region *region_next(struct region *region);

/*
 * region_create() - make an object that @session's user owns and give it its name
 *
 * It has no attachment yet: the caller attaches, or calls region_unlink().
 */
int region_create(struct broker *broker, struct session *session,
		  const struct region_request *request, struct region **ret_region,
		  struct failure *failure);

/* region_alloc() - an object of that name and nothing else, for region_create() and recovery.
 * Return: NULL if out of memory. */
struct region *region_alloc(const char *name, size_t length);

/* region_charge_recovered() - its owner pays for it, whatever the limits are now */
void region_charge_recovered(struct broker *broker, struct region *region);

/* region_unlink() - take the name away, tell watchers; the memory goes with the last attachment */
void region_unlink(struct broker *broker, struct region *region);

/* region_chown() - new owner and group, with the charges */
int region_chown(struct broker *broker, struct region *region, uid_t uid, gid_t gid,
		 struct failure *failure);

uid_t region_owner(const struct region *region);

/* region_orphan() - its creating session ends: regions of lifetime "session" lose their name */
void region_orphan(struct broker *broker, struct session *session);

/*
 * region_attach() - an attachment of @session, with descriptors for it
 * @access:  enum shmb_access, allowed already
 * @ret_fds: data segment and publish page; send them at once, then region_release_fds()
 */
int region_attach(struct broker *broker, struct region *region, struct session *session,
		  unsigned access, struct attachment **ret_attachment, int ret_fds[SEGMENT_MAPPED],
		  struct failure *failure);

/* region_reopen_fds() - the same descriptors for an attachment that has had them before. Return: 0,
 * or a negative errno. */
int region_reopen_fds(struct broker *broker, const struct attachment *attachment,
		      int ret_fds[SEGMENT_MAPPED]);

void region_release_fds(unsigned access, int fds[SEGMENT_MAPPED]);

/* attachment_new() - of any kind of object, charged, with a number but without descriptors */
int attachment_new(struct broker *broker, struct region *region, struct session *session,
		   unsigned access, struct attachment **ret_attachment, struct failure *failure);

/* attachment_recover() - one that a session had with the daemon before; nothing of its kind is set.
 * Return: 0, -EINVAL or -ENOMEM. */
int attachment_recover(struct broker *broker, struct region *region, struct session *session,
		       uint32_t handle, unsigned access, struct attachment **ret_attachment);

/*
 * region_detach() - end an attachment of any kind; a region that nobody needs any more goes with it
 * @died: its process may have died between publishing and telling: watchers are looked after at the
 *        end of the batch
 */
void region_detach(struct broker *broker, struct attachment *attachment, bool died);

/*
 * region_batch_begin(), region_batch_end() - around many detachments
 *
 * One process can hold tens of thousands. In a batch, watchers of a region are told once, and the
 * memory of all regions that end is destroyed together, off the loop.
 */
void region_batch_begin(struct broker *broker);
void region_batch_end(struct broker *broker);

/* region_sequence() - the number of publishes, read from the publish page */
uint64_t region_sequence(struct broker *broker, struct region *region);

/*
 * region_write_word() - store one word of the publish page, for those who have it mapped
 * @bytes: 4 or 8
 *
 * A client that truncated its own shm segment is not told of it, nor is anybody else: the words are
 * hints.
 *
 * Return: 0, or a negative errno: -EFAULT if the page has vanished, others for want of something.
 * Who can wait tries again later.
 */
int region_write_word(struct broker *broker, struct region *region, size_t offset, uint64_t value,
		      size_t bytes);

/* region_read_word() - eight bytes of it, which anybody who may write the region can change.
 * Return: 0, or a negative errno. */
int region_read_word(struct broker *broker, const struct region *region, size_t offset,
		     uint64_t *ret_value);

/* region_free() - destroy the memory; for regions that are removed and unattached, and at shutdown
 */
void region_free(struct broker *broker, struct region *region);

/* region_destroy_segments() - of an object of that user that ends; of those in a batch together,
 * off the loop */
void region_destroy_segments(struct broker *broker, uid_t uid, struct segments *segments,
			     uint64_t bytes);

/* Between region.c and batch.c. */
void region_leave_dirty(struct broker *broker, struct region *region);

/* region_data_bytes() - length of a data segment: the capacity in whole pages of that backing */
uint64_t region_data_bytes(const struct broker *broker, const struct backing *data,
			   uint64_t capacity);

/* region_in_pages() - round up to whole pages */
uint64_t region_in_pages(const struct broker *broker, uint64_t bytes);

/* region_default_backing() - what an object is made of where nobody asks for anything */
const struct backing *region_default_backing(const struct broker *broker);

#endif
