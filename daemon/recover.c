/* SPDX-License-Identifier: MIT */
/*
 * Taking over from the daemon before.
 *
 * First the latest record of each thing is found (recover_read.c), then its memory, then it is put
 * where it was (recover_place.c). Then the manifest is written anew, and only then anything ends:
 * those who have died, with what they had, and things whose memory is gone. Whoever dies here has
 * changed nothing, or what the next daemon does again with the same result.
 */
#include "recover.h"

#include "account.h"
#include "activation.h"
#include "arena.h"
#include "broker.h"
#include "daemon.h"
#include "growth.h"
#include "layout/publish.h"
#include "lock.h"
#include "log.h"
#include "recovery.h"
#include "remember.h"
#include "resize.h"
#include "session.h"

#include <shmbroker/shmbroker.h>

#include <errno.h>
#include <string.h>
#include <utlist.h>

static bool nobody_needs(const struct region *region)
{
	return region->n_attachments == 0 && (region->removed || region->lifetime == SHMB_ATTACHED);
}

/* Lost memory takes the name with it; handles stay until they are closed. */
static void remove_lost(struct recovery *recovery)
{
	struct broker *broker = recovery->broker;
	struct object_found *found, *next;

	HASH_ITER(hh, recovery->objects, found, next) {
		struct region *region = found->region;

		if (!region || !(found->lost || found->orphaned || nobody_needs(region)))
			continue;
		recovery->n_lost += found->lost;
		region_unlink(broker, region); /* which frees it, if nobody is attached */
	}
}

static void end_dead(struct recovery *recovery)
{
	struct session_found *found, *next;

	HASH_ITER(hh, recovery->sessions, found, next) {
		if (!found->session || !found->dead)
			continue;
		recovery->n_dead++;
		session_end(found->session);
	}
}

/* It cannot be looked at now, so nothing is known of the numbers that nobody owns. */
static void sweep_later(struct broker *broker, struct slots *slots)
{
	for (uint32_t slot = 1; slot <= slots->size; slot++)
		slots_sweep(broker, slots, slot);
}

/* What the daemon before may not have got to: its last words in publish pages, punches, repairs. */
static void finish(struct broker *broker)
{
	struct region *region;
	struct arena *arena, *next_arena;

	DL_FOREACH2(broker->regions.all, region, next) {
		if (region->removed && region->segments.made[SEGMENT_PUBLISH])
			region_write_word(broker, region, offsetof(struct layout_publish, removed),
					  1, sizeof(uint32_t));
		if (region->segments.generation > 0)
			growth_show(broker, region);
		if (region->resizing && resize_recover(broker, region) < 0)
			region->resizing = false;
		if (region->slots && lock_sweep(broker, region) < 0)
			sweep_later(broker, region->slots);
	}
	DL_FOREACH_SAFE(broker->arenas, arena, next_arena)
	{
		arena_recovered(broker, arena);
	}
	DL_FOREACH(broker->arenas, arena)
		if (arena_sweep(broker, arena) < 0)
			sweep_later(broker, arena->slots);
}

static void report(const struct recovery *recovery, int n_leftover, size_t n_unclaimed)
{
	const struct broker *broker = recovery->broker;

	log_notice("took over %llu regions, %llu locks, %llu semaphores and %llu sessions",
		   (unsigned long long)broker->regions.counts[OBJECT_REGION],
		   (unsigned long long)broker->regions.counts[OBJECT_LOCK],
		   (unsigned long long)broker->regions.counts[OBJECT_SEMAPHORE],
		   (unsigned long long)broker->accounts.total[CHARGE_AWAY]);
	if (recovery->n_dead > 0)
		log_notice("%llu sessions had lost their processes",
			   (unsigned long long)recovery->n_dead);
	if (recovery->n_lost > 0)
		log_warning("the memory of %llu objects is gone: they are removed",
			    (unsigned long long)recovery->n_lost);
	if (n_leftover > 0 || n_unclaimed > 0)
		log_notice("removed %d segments and %zu stored descriptors that nobody remembers",
			   n_leftover, n_unclaimed);
	if (recovery->lost_bytes > 0)
		log_error("the manifest cannot be read to its end: the last %llu bytes are lost",
			  (unsigned long long)recovery->lost_bytes);
	if (recovery->n_senseless > 0)
		log_error("%llu records of the manifest make no sense and are left out",
			  (unsigned long long)recovery->n_senseless);
}

/* A full directory need not keep us from serving: what will end has its room in the old file. */
static int open_manifest(struct recovery *recovery, const char *directory)
{
	struct broker *broker = recovery->broker;
	int result = remember_rewrite(broker, directory);

	if ((result != -ENOSPC && result != -EDQUOT) || recovery->lost_bytes > 0 ||
	    recovery->view.version != MANIFEST_VERSION)
		return result;
	log_begin(LOG_MANIFEST, strerror(-result));
	return manifest_continue(&broker->manifest, directory);
}

/* Return: 0, or a negative errno: better not to serve than to forget. */
static int take_over(struct recovery *recovery, const char *directory)
{
	struct broker *broker = recovery->broker;
	size_t n_unclaimed;
	int n_leftover, result;

	broker->regions.next_id = recovery->view.origin.next_id;
	broker->next_session = recovery->view.origin.next_session;
	broker->recoveries = recovery->view.origin.recoveries + 1;
	recovery_read(recovery);
	recovery->lost_bytes += recovery->view.torn;
	if (recovery->no_memory)
		return -ENOMEM;
	n_leftover = backing_shm_sweep(broker->instance.id, recovery_claim, recovery);
	recovery_place(recovery);
	result = recovery->no_memory ? -ENOMEM : open_manifest(recovery, directory);
	if (result < 0)
		return result;
	n_unclaimed = activation_deinit(recovery->activation, &broker->store);
	region_batch_begin(broker);
	remove_lost(recovery);
	end_dead(recovery);
	region_batch_end(broker);
	finish(broker);
	report(recovery, n_leftover, n_unclaimed);
	return 0;
}

/* What of a dead daemon cannot be taken over goes. */
static int begin_anew(struct broker *broker, const char *directory, struct activation *activation)
{
	int removed = 0;

	if (broker->instance.previous)
		removed = backing_shm_sweep(broker->instance.previous, NULL, NULL);
	if (removed > 0)
		log_notice("the daemon before left no manifest; removed %d segments it left",
			   removed);
	activation_deinit(activation, &broker->store);
	return remember_rewrite(broker, directory);
}

static int refuse_newer(const struct manifest_view *view)
{
	log_error("the manifest is of version %u, this daemon reads those up to %u: nothing was "
		  "touched; start a newer shmbrokerd, or discard all with --purge",
		  (unsigned)view->version, (unsigned)MANIFEST_VERSION);
	return EXIT_CODE_NEWER;
}

int recover(struct broker *broker, const char *directory, struct activation *activation)
{
	struct recovery recovery = { .broker = broker, .activation = activation };
	int state = manifest_look(&recovery.view, directory);
	int result = 0;

	if (state == MANIFEST_NEWER) {
		result = refuse_newer(&recovery.view);
		manifest_view_close(&recovery.view);
		return result;
	}
	if (state == MANIFEST_GARBLED)
		log_error("the manifest makes no sense: what it remembered is lost");
	if (state < 0)
		result = state;
	else
		result = instance_name(&broker->instance,
				       state == MANIFEST_GOOD ? recovery.view.origin.instance : 0);
	if (result == 0 && state == MANIFEST_GOOD)
		result = take_over(&recovery, directory);
	else if (result == 0)
		result = begin_anew(broker, directory, activation);
	recovery_deinit(&recovery);
	if (result == 0)
		return 0;
	log_error("cannot take over what is in %s: %s", directory, strerror(-result));
	return EXIT_CODE_FAILURE;
}

int recover_purge(struct broker *broker, const char *directory)
{
	struct manifest_view view;
	int removed = 0;

	if (manifest_look(&view, directory) >= 0 && view.origin.instance)
		removed = backing_shm_sweep(view.origin.instance, NULL, NULL);
	if (broker->instance.previous && broker->instance.previous != view.origin.instance)
		removed += backing_shm_sweep(broker->instance.previous, NULL, NULL);
	manifest_view_close(&view);
	manifest_remove(directory);
	log_notice("removed %d segments", removed);
	return EXIT_CODE_OK;
}
