/* SPDX-License-Identifier: MIT */
/*
 * Attachments, and the few words of the publish page that the broker reads or writes.
 *
 * It reads with pread, and writes with process_vm_writev into a mapping of its own that lasts for
 * the moment: a client that truncates the segment under us then causes an error and not a SIGBUS.
 * pwrite would wait for the inode's lock, which a writer can hold for as long as it likes: the page
 * fault of its own write(2) is taken under it. A word is 4 or 8 aligned bytes, which the kernel
 * copies with one store on every system that this runs on.
 */
#include "region.h"

#include "account.h"
#include "broker.h"
#include "layout/publish.h"
#include "lock.h"
#include "arena.h"
#include "session.h"
#include "watch.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
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

/* A failed page fault is an error here, where a plain store would raise a signal. Kernels and
 * sandboxes without this call get the write that may wait. */
static int store(int fd, void *page, size_t offset, void *word, size_t bytes)
{
	struct iovec from = { .iov_base = word, .iov_len = bytes };
	struct iovec to = { .iov_base = (char *)page + offset, .iov_len = bytes };
	ssize_t written = process_vm_writev(getpid(), &from, 1, &to, 1, 0);

	if (written < 0 && (errno == ENOSYS || errno == EPERM))
		written = pwrite(fd, word, bytes, (off_t)offset);
	return written < 0 ? -errno : 0;
}

int region_write_word(struct broker *broker, struct region *region, size_t offset, uint64_t value,
		      size_t bytes)
{
	uint32_t half = (uint32_t)value;
	int fd = borrow(broker, region, SEGMENT_PUBLISH);
	void *page;
	int result;

	if (fd < 0)
		return fd;
	page = mmap(NULL, sizeof(struct layout_publish), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	result = store(fd, page, offset, bytes == sizeof(half) ? (void *)&half : (void *)&value,
		       bytes);
	munmap(page, sizeof(struct layout_publish));
	return result;
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
	attachment->session = session;
	attachment->region = region;
	attachment->access = (uint8_t)access;
	region->n_attachments++;
	broker->regions.n_attachments++;
	*ret_attachment = attachment;
	return 0;
}

/* The flag is set before the reader gets its descriptors, so that it is in place before the reader
 * can first wait. */
static void count_reader(struct broker *broker, struct region *region, int change)
{
	uint32_t before = region->n_readers;

	region->n_readers += (uint32_t)change;
	if ((before == 0) != (region->n_readers == 0))
		region_write_word(broker, region, offsetof(struct layout_publish, readers),
				  region->n_readers != 0, sizeof(uint32_t));
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
	return 0;
}

void region_detach(struct broker *broker, struct attachment *attachment, bool died)
{
	struct region *region = attachment->region;
	bool could_publish = attachment->access & SHMB_WRITE;

	watch_end(broker, attachment);
	if (attachment->slot)
		lock_detach(broker, attachment);
	if (attachment->use)
		semaphore_detach(broker, attachment);
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
