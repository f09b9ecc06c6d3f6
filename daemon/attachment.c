/* SPDX-License-Identifier: MIT */
/*
 * Attachments, and the few words of the publish page that the broker reads or writes.
 *
 * It reads with pread, and writes through a guard: a client that truncates the segment under us
 * then causes an error and not a SIGBUS. pwrite would wait for the inode's lock, which a writer can
 * hold for as long as it likes: the page fault of its own write(2) is taken under it. A word is 4
 * or 8 aligned bytes, which is copied at once on every system that this runs on.
 */
#include "region.h"

#include "account.h"
#include "broker.h"
#include "growth.h"
#include "guard.h"
#include "layout/publish.h"
#include "lock.h"
#include "arena.h"
#include "remember.h"
#include "session.h"
#include "ticket.h"
#include "watch.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

static int borrow(struct broker *broker, const struct region *region, enum segment which)
{
	return segment_borrow(&broker->segments, broker->instance.id, &region->segments, which);
}

uint64_t region_sequence(struct broker *broker, struct region *region)
{
	int fd = borrow(broker, region, SEGMENT_PUBLISH);
	uint64_t sequence;

	if (fd >= 0 && pread(fd, &sequence, sizeof(sequence),
			     offsetof(struct layout_publish, sequence)) == sizeof(sequence))
		region->sequence = sequence;
	return region->sequence;
}

int region_read_word(struct broker *broker, const struct region *region, size_t offset,
		     uint64_t *ret_value)
{
	int fd = borrow(broker, region, SEGMENT_PUBLISH);

	return fd < 0 ? fd : guard_read(fd, ret_value, sizeof(*ret_value), offset);
}

int region_write_word(struct broker *broker, struct region *region, size_t offset, uint64_t value,
		      size_t bytes)
{
	struct guard guard;
	void *page, *word;
	int result;

	if (broker->leaving)
		return 0;
	result = segment_map(&broker->segments, broker->instance.id, &region->segments,
			     SEGMENT_PUBLISH, sizeof(struct layout_publish), &page);
	if (result < 0)
		return result;
	guard_enter(&guard, page, sizeof(struct layout_publish));
	word = (char *)page + offset;
	if (bytes == sizeof(uint32_t))
		atomic_store((_Atomic uint32_t *)word, (uint32_t)value);
	else
		atomic_store((_Atomic uint64_t *)word, value);
	if (guard_leave(&guard))
		return 0;
	segment_forget(&broker->segments, region->segments.id);
	return -EFAULT;
}

void region_release_fds(unsigned access, int fds[SEGMENT_MAPPED])
{
	if (!(access & SHMB_WRITE)) /* writable ones are the cache's */
		for (int i = 0; i < SEGMENT_MAPPED; i++)
			close(fds[i]);
}

static int open_segments(struct broker *broker, struct region *region, unsigned access,
			 int fds[SEGMENT_MAPPED])
{
	for (int i = 0; i < SEGMENT_MAPPED; i++) {
		fds[i] = access & SHMB_WRITE ? borrow(broker, region, (enum segment)i)
					     : segments_open(&region->segments, broker->instance.id,
							     (enum segment)i, false);
		if (fds[i] < 0) {
			int error = fds[i];

			while (!(access & SHMB_WRITE) && i-- > 0)
				close(fds[i]);
			return error;
		}
	}
	return 0;
}

/* Numbers are not used again until they wrap, so that a late message cannot hit a new attachment.
 */
static bool number(struct session *session, struct attachment *attachment)
{
	do {
		attachment->handle = ++session->last_handle;
	} while (attachment->handle == 0 || session_attachment(session, attachment->handle));
	HASH_ADD(hh, session->attachments, handle, sizeof(attachment->handle), attachment);
	return TABLE_HAS(attachment);
}

static void join(struct broker *broker, struct attachment *attachment, struct region *region,
		 struct session *session, unsigned access)
{
	attachment->session = session;
	attachment->region = region;
	attachment->access = (uint8_t)access;
	region->n_attachments++;
	broker->regions.n_attachments++;
}

int attachment_new(struct broker *broker, struct region *region, struct session *session,
		   unsigned access, struct attachment **ret_attachment, struct failure *failure)
{
	uint64_t limit = broker->settings.per_user[CHARGE_ATTACHMENTS];
	struct attachment *attachment;

	if (!account_charge(session->account, CHARGE_ATTACHMENTS, 1, limit))
		return answer_fail_limit(failure, SHMB_EDQUOT,
					 settings_charge_name(CHARGE_ATTACHMENTS), limit);
	attachment = calloc(1, sizeof(*attachment));
	if (!attachment || !number(session, attachment)) {
		free(attachment);
		account_uncharge(session->account, CHARGE_ATTACHMENTS, 1);
		return answer_fail_system(failure, ENOMEM, "attachment");
	}
	join(broker, attachment, region, session, access);
	*ret_attachment = attachment;
	return 0;
}

int attachment_recover(struct broker *broker, struct region *region, struct session *session,
		       uint32_t handle, unsigned access, struct attachment **ret_attachment)
{
	struct attachment *attachment;

	if (handle == 0 || session_attachment(session, handle))
		return -EINVAL;
	attachment = calloc(1, sizeof(*attachment));
	if (!attachment)
		return -ENOMEM;
	attachment->handle = handle;
	HASH_ADD(hh, session->attachments, handle, sizeof(handle), attachment);
	if (!TABLE_HAS(attachment)) {
		free(attachment);
		return -ENOMEM;
	}
	account_charge(session->account, CHARGE_ATTACHMENTS, 1, UINT64_MAX);
	join(broker, attachment, region, session, access);
	attachment->remembered = true;
	manifest_owe(&broker->manifest, OWED_END);
	if (region->kind == OBJECT_REGION && !(access & SHMB_WRITE))
		region->n_readers++; /* the page says so already */
	if (handle > session->last_handle)
		session->last_handle = handle;
	*ret_attachment = attachment;
	return 0;
}

/* The flag is set before the reader gets its descriptors, so that it is in place before the reader
 * can first wait. */
static void count_reader(struct broker *broker, struct region *region, int change)
{
	uint32_t before = region->n_readers;

	region->n_readers += (uint32_t)change;
	/* Before anybody can see it: a next daemon that still knew of the last reader would not set
	 * the flag again for another one. */
	if (region->n_readers == 0)
		manifest_commit(&broker->manifest);
	if ((before == 0) != (region->n_readers == 0))
		region_write_word(broker, region, offsetof(struct layout_publish, readers),
				  region->n_readers != 0, sizeof(uint32_t));
}

int region_reopen_fds(struct broker *broker, const struct attachment *attachment,
		      int ret_fds[SEGMENT_MAPPED])
{
	return open_segments(broker, attachment->region, attachment->access, ret_fds);
}

int region_attach(struct broker *broker, struct region *region, struct session *session,
		  unsigned access, struct attachment **ret_attachment, int ret_fds[SEGMENT_MAPPED],
		  struct failure *failure)
{
	int result = open_segments(broker, region, access, ret_fds);

	if (result < 0)
		return answer_fail_system(failure, result, "opening the region's memory");
	result = attachment_new(broker, region, session, access, ret_attachment, failure);
	if (result != 0) {
		region_release_fds(access, ret_fds);
		return result;
	}
	if (!(access & SHMB_WRITE))
		count_reader(broker, region, 1);
	remember_attachment(broker, *ret_attachment);
	return 0;
}

void region_detach(struct broker *broker, struct attachment *attachment, bool died)
{
	struct region *region = attachment->region;
	bool could_publish = attachment->access & SHMB_WRITE;

	watch_end(broker, attachment);
	growth_detach(broker, attachment);
	tickets_end(broker, attachment);
	if (attachment->slot)
		lock_detach(broker, attachment);
	if (attachment->use)
		semaphore_detach(broker, attachment);
	forget_attachment(broker, attachment);
	HASH_DEL(attachment->session->attachments, attachment);
	account_uncharge(attachment->session->account, CHARGE_ATTACHMENTS, 1);
	broker->regions.n_attachments--;
	free(attachment);

	region->n_attachments--;
	if (region->n_attachments == 0 && (region->removed || region->lifetime == SHMB_ATTACHED)) {
		region_unlink(broker, region);
		return;
	}
	if (region->kind != OBJECT_REGION)
		return;
	if (!could_publish)
		count_reader(broker, region, -1);
	else if (died && region->armed && !region->dirty) {
		region->dirty = true;
		DL_APPEND2(broker->regions.dirty, region, dirty_previous, dirty_next);
	}
}
