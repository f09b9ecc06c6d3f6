/* SPDX-License-Identifier: MIT */
/*
 * Resize. The memory that a shrink gives up is punched out; what late writers may have put beyond
 * the old size is punched again before a growth shows it. A long punch runs on the thread pool;
 * resizes of one region then queue up and are answered in order.
 *
 * All or nothing: a growth is shown when the memory is there, and a shrink before anything goes. So
 * what forbids a shrink is asked first; and one that was shown has happened, whatever the system
 * then says of the memory: another client may have acted on it, or the next daemon.
 */
#include "resize.h"

#include "account.h"
#include "broker.h"
#include "growth.h"
#include "layout/publish.h"
#include "log.h"
#include "peer.h"
#include "punch.h"
#include "remember.h"
#include "session.h"
#include "watch.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

enum { PUNCHES_PER_USER = 8 };
enum { PUNCH_INLINE_MAX = 1 << 20 }; /* bytes; at 0.05 s for each GiB, some 50 microseconds */

struct resize {
	uv_work_t work;
	struct broker *broker;
	struct region *region;
	struct session *session; /* a reference */
	uint64_t size;
	uint32_t msgid;
	int wants_reply;
	unsigned returns;              /* of the session, when it was last asked for */
	bool recorded;                 /* as done */
	struct account *puncher;       /* whose thread of the pool it has; a reference, or NULL */
	uint64_t punch_from, punch_to; /* bytes */
	bool shorter;
	bool shown;   /* everybody can see the new size */
	int64_t owed; /* room in the manifest */
	int fd;
	int result;
	struct resize *next;
};

static void start_next(struct broker *broker, struct region *region);

/* Instead of punching, the file is made longer or shorter: nobody else can do that for all. */
static bool is_file(const struct region *region)
{
	return region->segments.data == &backing_file;
}

/*
 * A punch waits for the inode's lock, which a writer can hold for as long as it likes (the page
 * fault of its own write(2) is taken under it): among several users the loop must not wait for it.
 */
static bool may_punch_inline(const struct resize *resize)
{
	uint64_t length = resize->punch_to - resize->punch_from;

	if (is_file(resize->region))
		return false;
	return length == 0 ||
	       (length <= PUNCH_INLINE_MAX && resize->broker->options.scope != SCOPE_SYSTEM);
}

/* Such a writer hangs a thread of the pool each time: no user may have more than a part of them. */
static uint64_t punches_max(const struct broker *broker)
{
	return broker->options.scope == SCOPE_SYSTEM ? PUNCHES_PER_USER : UINT64_MAX;
}

static void show_size(struct broker *broker, struct region *region)
{
	region_write_word(broker, region, offsetof(struct layout_publish, size), region->size,
			  sizeof(region->size));
	region_notify(broker, region);
}

static void record_done(struct resize *resize)
{
	if (!resize->session || !resize->wants_reply || resize->session->ended || resize->recorded)
		return;
	resize->recorded = true;
	remember_done(resize->broker, resize->session, resize->msgid, 0, false);
}

/* It is done as soon as anybody can see it; what is left to do, a daemon after us would. */
static void change_size(struct resize *resize)
{
	struct broker *broker = resize->broker;
	struct region *region = resize->region;

	resize->shown = true;
	region->size = resize->size;
	/* A file that was made longer is not to be cut off there by the next daemon: it may go on
	 * behind the region's end. */
	region->resizing = !is_file(region) || resize->shorter;
	if (is_file(region)) { /* whose capacity is its size: they map it anew */
		region->capacity = region->size;
		region->segments.generation++;
		remember_object(broker, region);
	} else {
		remember_size(broker, region);
	}
	record_done(resize);
	manifest_commit(&broker->manifest);
	if (is_file(region))
		growth_show(broker, region);
	else
		show_size(broker, region);
}

static void explain(const struct resize *resize, struct failure *failure)
{
	switch (resize->result) {
	case -EBUSY:
		answer_fail_limit(failure, SHMB_EBUSY, "resizes under way", PUNCHES_PER_USER);
		break;
	case -EPERM: /* sealed, or append-only */
		answer_fail(failure, SHMB_EACCES, "file");
		break;
	case -EINVAL:
		answer_fail(failure, SHMB_EINVAL, "size: the file has huge pages");
		break;
	default:
		answer_fail_system(failure, resize->result,
				   is_file(resize->region) ? "changing a file's length"
							   : "giving memory back");
	}
}

static void answer(struct resize *resize)
{
	struct session *session = resize->session;
	struct peer *peer;
	struct failure failure;

	if (!session)
		return;
	peer = session->peer;
	peer_job_done(session);
	if (!peer || !resize->wants_reply || resize->returns != session->returns)
		return;
	if (resize->result == 0) {
		peer_answer(peer, resize->msgid, WIRE_REGION_RESIZE, &(struct wire_empty){ 0 });
		return;
	}
	explain(resize, &failure);
	peer_answer_failure(peer, resize->msgid, &failure);
}

static void finish(struct resize *resize)
{
	struct broker *broker = resize->broker;
	struct region *region = resize->region;

	if (resize->fd >= 0)
		close(resize->fd);
	manifest_owe(&broker->manifest, -resize->owed); /* it is for what follows */
	if (resize->result < 0 && resize->shown) {
		log_begin(LOG_GIVING_BACK, strerror(-resize->result));
		resize->result = 0;
	} else if (resize->shown) {
		log_end(LOG_GIVING_BACK);
	}
	if (resize->result == 0 && resize->size > region->size)
		change_size(resize);
	LL_DELETE(region->resizes, resize);
	region->resizing = false;
	remember_size(broker, region);
	if (resize->result == 0)
		record_done(resize);
	answer(resize);
	if (resize->session) {
		account_uncharge(resize->session->account, CHARGE_QUEUE, sizeof(*resize));
		session_unref(resize->session);
	}
	free(resize);
}

/* Return: false: the user has its part of the threads. */
static bool enter_pool(struct resize *resize, struct account *account, uint64_t limit)
{
	if (!account_charge(account, CHARGE_PUNCHES, 1, limit))
		return false;
	resize->puncher = account_get(&resize->broker->accounts, account_uid(account));
	return true;
}

static void leave_pool(struct resize *resize)
{
	account_uncharge(resize->puncher, CHARGE_PUNCHES, 1);
	account_put(resize->puncher);
	resize->puncher = NULL;
}

static void punch_work(uv_work_t *work)
{
	struct resize *resize = work->data;

	if (is_file(resize->region))
		resize->result = truncate_apart(resize->fd, resize->size, resize->shorter);
	else
		resize->result = punch_apart(resize->fd, resize->punch_from, resize->punch_to);
}

static void punch_done(uv_work_t *work, int status)
{
	struct resize *resize = work->data;
	struct broker *broker = resize->broker;
	struct region *region = resize->region;

	leave_pool(resize);
	finish(resize);
	start_next(broker, region);
}

/* What goes to the pool has a descriptor of its own; else it is the cache's, until somebody else
 * may have used that. */
static int open_data(struct resize *resize, bool own)
{
	struct broker *broker = resize->broker;
	struct region *region = resize->region;

	if (!own)
		return segment_borrow(&broker->segments, broker->instance.id, &region->segments,
				      SEGMENT_DATA);
	resize->fd = segments_open(&region->segments, broker->instance.id, SEGMENT_DATA, true);
	return resize->fd;
}

/* Return: true if it is done, false if the thread pool has it. */
static bool run(struct resize *resize)
{
	struct broker *broker = resize->broker;
	struct region *region = resize->region;
	struct account *account = resize->session->account;
	uint64_t before = region->size;
	bool pooled;
	int fd;

	resize->shorter = resize->size < before;
	resize->punch_from = resize->size < before ? resize->size : before;
	resize->punch_to = region_data_bytes(broker, region->segments.data,
					     resize->size < before ? before : resize->size);
	pooled = !may_punch_inline(resize);
	fd = open_data(resize, pooled);
	resize->result = fd < 0            ? fd
			 : is_file(region) ? truncate_check(fd, resize->size, resize->shorter)
					   : 0;
	if (resize->result < 0)
		return true;
	if (pooled && !enter_pool(resize, account, punches_max(broker))) {
		resize->result = -EBUSY;
		return true;
	}
	/* A shrink shows at once, so that nobody is told the bytes are there while they go. */
	if (resize->size < before)
		change_size(resize);
	resize->work.data = resize;
	if (pooled) {
		if (uv_queue_work(&broker->loop, &resize->work, punch_work, punch_done) == 0)
			return false;
		leave_pool(resize);
	}
	if (is_file(region))
		punch_work(&resize->work);
	else
		resize->result = punch(pooled ? fd : open_data(resize, false), resize->punch_from,
				       resize->punch_to);
	return true;
}

static void start_next(struct broker *broker, struct region *region)
{
	while (region->resizes) {
		if (broker->leaving) /* who asked will ask the next daemon */
			region->resizes->result = -ECANCELED;
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc) finish() takes it off the list
		else if (!run(region->resizes))
			return;
		finish(region->resizes);
	}
	if (region->n_attachments == 0 && region->removed)
		region_free(broker, region);
}

/* A file's generation changes with its size, and that is in its object's record. */
static void enter(struct resize *resize)
{
	struct region *region = resize->region;

	resize->owed = OWED_RESIZE + (is_file(region) ? (int64_t)remember_object_bytes(region) : 0);
	manifest_owe(&resize->broker->manifest, resize->owed);
	LL_APPEND(region->resizes, resize);
}

int resize_start(struct broker *broker, struct region *region, struct session *session,
		 uint64_t size, uint32_t msgid, int wants_reply, struct failure *failure)
{
	bool idle = !region->resizes;
	uint64_t limit = broker->settings.per_user[CHARGE_QUEUE];
	uint64_t most = is_file(region) ? broker->settings.max_region : region->capacity;
	struct resize *resize;

	if (size > most)
		return answer_fail_limit(failure, SHMB_EFBIG,
					 is_file(region) ? "max-region" : "capacity", most);
	if (!account_charge(session->account, CHARGE_QUEUE, sizeof(*resize), limit))
		return answer_fail_limit(failure, SHMB_EDQUOT, settings_charge_name(CHARGE_QUEUE),
					 limit);
	resize = calloc(1, sizeof(*resize));
	if (!resize) {
		account_uncharge(session->account, CHARGE_QUEUE, sizeof(*resize));
		return answer_fail_system(failure, ENOMEM, "resize");
	}
	resize->broker = broker;
	resize->region = region;
	resize->session = session_ref(session);
	resize->size = size;
	resize->fd = -1;
	resize->msgid = msgid;
	resize->wants_reply = wants_reply;
	resize->returns = session->returns;
	enter(resize);
	peer_job_begin(session);
	if (idle)
		start_next(broker, region);
	return 0;
}

bool resize_repeat(struct region *region, const struct session *session, uint32_t msgid)
{
	struct resize *resize;

	LL_FOREACH(region->resizes, resize) {
		if (resize->session != session || resize->msgid != msgid || !resize->wants_reply)
			continue;
		resize->returns = session->returns;
		return true;
	}
	return false;
}

/*
 * The punch goes to the pool whatever its length: nobody who can make it wait holds up the start.
 * It counts for the owner, or each daemon that is killed would cost the pool some more threads.
 */
int resize_recover(struct broker *broker, struct region *region)
{
	struct resize *resize = calloc(1, sizeof(*resize));

	if (!resize)
		return -ENOMEM;
	resize->broker = broker;
	resize->region = region;
	resize->size = region->size;
	resize->fd = segments_open(&region->segments, broker->instance.id, SEGMENT_DATA, true);
	if (resize->fd < 0) {
		int error = resize->fd;

		free(resize);
		return error;
	}
	show_size(broker, region);
	resize->shorter = resize->shown = true;
	resize->punch_from = region->size;
	resize->punch_to = region_data_bytes(broker, region->segments.data, region->capacity);
	resize->work.data = resize;
	enter(resize);
	enter_pool(resize, region->account, UINT64_MAX);
	if (uv_queue_work(&broker->loop, &resize->work, punch_work, punch_done) == 0)
		return 0;
	leave_pool(resize);
	finish(resize);
	return 0;
}
