/* SPDX-License-Identifier: MIT */
/*
 * Events. The broker's watches fire once; ours last: after the callback has run the watch is armed
 * again with what was told, so that nothing that happened meanwhile is missed, and at most one
 * event is on its way. What the broker sends is a hint to look; what is told is the difference to
 * what was told before.
 *
 * The broker does not keep watches when it dies. When it is back they are armed with what was told
 * last, each by a request that nobody waits for, so that one that is refused is tried again.
 *
 * Changes to a file are the system's to tell, and go straight to this process.
 */

#include "watch.h"

#include <errno.h>
#include <sys/stat.h>

#include "calls.h"
#include "client.h"
#include "clock.h"
#include "file_events.h"
#include "loop.h"
#include "output.h"
#include "region.h"

enum {
	TYPES_WIRE = SHMB_EVENT_PUBLISHED | SHMB_EVENT_RESIZED | SHMB_EVENT_REMOVED |
		     SHMB_EVENT_METADATA | SHMB_EVENT_OWNER_DIED,
	TYPES_ALL = TYPES_WIRE | SHMB_EVENT_DISCONNECTED | SHMB_EVENT_FILE,
};

enum { REARM_NS = 1000000000 }; /* until arming is tried again */

/* ---- The table of watched regions, by handle ---- */

static struct shmb_region **bucket(struct shmb_client *client, uint32_t handle)
{
	return &client->watched[handle % WATCH_BUCKETS];
}

static struct shmb_region *find(struct shmb_client *client, uint64_t handle)
{
	struct shmb_region *region = *bucket(client, (uint32_t)handle);

	while (region && region->handle != handle)
		region = region->watch.next;
	return region;
}

static void insert(struct shmb_region *region)
{
	struct shmb_region **head = bucket(region->client, region->handle);

	region->watch.next = *head;
	region->watch.registered = true;
	*head = region;
}

static void take_out(struct shmb_region *region)
{
	struct shmb_region **link = bucket(region->client, region->handle);

	while (*link != region)
		link = &(*link)->watch.next;
	*link = region->watch.next;
	region->watch.registered = false;
}

/* The queue holds a reference, so that the callback finds its region. */
static void queue(struct shmb_region *region)
{
	if (region->work.queued)
		return;
	region_ref(region);
	loop_queue(region->client, &region->work);
}

static void set_unarmed(struct shmb_region *region, bool unarmed)
{
	if (region->watch.unarmed == unarmed)
		return;
	region->watch.unarmed = unarmed;
	if (unarmed)
		region->client->n_unarmed++;
	else
		region->client->n_unarmed--;
}

/* ---- Files ---- */

static uint64_t count_links(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 ? (uint64_t)status.st_nlink : 0;
}

/* Regions of the same file share a number. In a forked child both are the parent's. */
static void end_file(struct shmb_region *region)
{
	struct shmb_client *client = region->client;
	struct shmb_region *other;
	int number = region->watch.file_watch;

	if (number < 0)
		return;
	LIST_REMOVE(region, watch.file_link);
	region->watch.file_watch = -1;
	LIST_FOREACH(other, &client->file_watchers, watch.file_link)
		if (other->watch.file_watch == number)
			return;
	if (!client_forked(client))
		file_events_remove(client->files, number);
}

static int open_files(struct shmb_client *client)
{
	int files;

	if (client->files >= 0)
		return 0;
	files = file_events_open();
	if (files < 0)
		return files;
	if (loop_watch(client, files) < 0) {
		file_events_close(files);
		return SHMB_ENOMEM;
	}
	client->files = files;
	return 0;
}

static int begin_file(struct shmb_region *region)
{
	struct shmb_client *client = region->client;
	int result = region->fd < 0 ? SHMB_ENOTSUP : open_files(client);

	if (result < 0 || region->watch.file_watch >= 0)
		return result;
	watch_files(client); /* what came before is not for this one */
	result = file_events_add(client->files, region->fd);
	if (result < 0)
		return result;
	region->watch.file_watch = result;
	region->watch.file_links = count_links(region->fd);
	LIST_INSERT_HEAD(&client->file_watchers, region, watch.file_link);
	return 0;
}

/* Permission and times of the file are not what anybody asked for; its last name is. */
static bool concerns(struct shmb_region *region, enum file_change change)
{
	uint64_t links;

	if (change != FILE_CHANGE_ATTRIBUTES)
		return true;
	links = count_links(region->fd);
	if (links == region->watch.file_links)
		return false;
	region->watch.file_links = links;
	return true;
}

static void on_file_change(void *context, int number, enum file_change change)
{
	struct shmb_client *client = context;
	struct shmb_region *region;

	LIST_FOREACH(region, &client->file_watchers, watch.file_link)
		if ((number < 0 || region->watch.file_watch == number) &&
		    concerns(region, change)) {
			region->watch.events |= SHMB_EVENT_FILE;
			queue(region);
		}
}

void watch_files(struct shmb_client *client)
{
	if (client->files >= 0)
		file_events_take(client->files, on_file_change, client);
}

/* ---- The end of one, of all ---- */

void watch_end(struct shmb_region *region)
{
	if (region->watch.registered)
		take_out(region);
	end_file(region);
	set_unarmed(region, false);
	region->watch.types = 0;
	region->watch.events = 0;
	region->watch.serial++;
	if (region->work.queued) {
		loop_unqueue(region->client, &region->work);
		/* Never the last reference: whoever calls has one. */
		atomic_fetch_sub(&region->refs, 1);
	}
}

void watch_end_all(struct shmb_client *client)
{
	for (size_t i = 0; i < WATCH_BUCKETS; i++)
		while (client->watched[i])
			watch_end(client->watched[i]);
}

void watch_disconnect_all(struct shmb_client *client)
{
	for (size_t i = 0; i < WATCH_BUCKETS; i++)
		for (struct shmb_region *region = client->watched[i]; region;
		     region = region->watch.next) {
			region->watch.events |= SHMB_EVENT_DISCONNECTED;
			queue(region);
		}
}

/* ---- What the broker says ---- */

void watch_event(struct shmb_client *client, const struct wire_region_event *event)
{
	struct shmb_region *region = find(client, event->handle);

	if (!region) /* closed or no longer watched while the event was on its way */
		return;
	region->watch.events |= (unsigned)event->types;
	region->watch.event_size = event->size;
	if (event->has & WIRE_HAS(region_event, metadata))
		region->watch.event_metadata = (uint32_t)event->metadata;
	if (event->has & WIRE_HAS(region_event, deaths))
		region->watch.event_deaths = (uint32_t)event->deaths;
	if (region->watch.n_arming == 0)
		queue(region);
}

/* What a new watch begins with. One that is armed again goes on with what it has told. */
static void begin_counting(struct watch *watch, const struct wire_region_watch_result *seen)
{
	const uint64_t both =
		WIRE_HAS(region_watch_result, metadata) | WIRE_HAS(region_watch_result, deaths);

	if (watch->counted || (seen->has & both) != both)
		return;
	watch->counted = true;
	watch->metadata = watch->event_metadata = (uint32_t)seen->metadata;
	watch->deaths = watch->event_deaths = (uint32_t)seen->deaths;
}

void watch_armed(struct shmb_region *region, const struct wire_region_watch_result *seen)
{
	region->watch.n_arming--;
	if (seen)
		begin_counting(&region->watch, seen);
	/* What came while it was being armed may be of an older watch, or of the new one: looking
	 * tells. */
	if (region->watch.n_arming == 0 && region->watch.registered && region->watch.events != 0)
		queue(region);
}

/* ---- Telling ---- */

static struct wire_region_watch_params params_of(const struct shmb_region *region)
{
	const struct watch *watch = &region->watch;

	return (struct wire_region_watch_params){
		.has = watch->counted ? WIRE_HAS(region_watch_params, metadata) |
						WIRE_HAS(region_watch_params, deaths)
				      : 0,
		.handle = region->handle,
		.types = watch->types & TYPES_WIRE,
		.sequence = watch->sequence,
		.size = watch->size,
		.metadata = watch->metadata,
		.deaths = watch->deaths,
	};
}

static void disarm(struct shmb_region *region)
{
	struct wire_region_watch_params params = { .handle = region->handle };

	if (!region->client->gone)
		output_notify(region->client, WIRE_REGION_WATCH, &params);
}

/* Return: 0 or SHMB_ENOMEM. */
static int rearm(struct shmb_region *region)
{
	struct wire_region_watch_params params = params_of(region);

	/* Since the broker was away, all are about to be armed anyway. */
	if (params.types == 0 || region->client->gone || region->watch.unarmed)
		return 0;
	return output_notify(region->client, WIRE_REGION_WATCH, &params);
}

/* ---- After the broker was away ---- */

void watch_lose_all(struct shmb_client *client)
{
	client->rearm_at = 0;
	for (size_t i = 0; i < WATCH_BUCKETS; i++)
		for (struct shmb_region *region = client->watched[i]; region;
		     region = region->watch.next)
			set_unarmed(region, (region->watch.types & TYPES_WIRE) != 0);
}

static int arm_again(struct shmb_region *region)
{
	struct wire_region_watch_params params = params_of(region);
	struct call *call = call_new(WIRE_REGION_WATCH);
	int result;

	if (!call)
		return SHMB_ENOMEM;
	call->abandoned = true;
	call->rearming = true;
	call->watching = region;
	/* First: a connection that breaks now loses it again. */
	region->watch.n_arming++;
	set_unarmed(region, false);
	result = call_start(region->client, call, &params, 0);
	if (result == 0)
		return 0;
	region->watch.n_arming--;
	set_unarmed(region, true);
	call_free(call);
	return result;
}

static void try_later(struct shmb_client *client)
{
	client->rearm_at = clock_now() + REARM_NS;
	loop_deadline_changed(client);
}

/* Return: false: no more for now. */
static bool arm_bucket(struct shmb_client *client, struct shmb_region *region)
{
	for (; region && client->connection == CONNECTION_UP; region = region->watch.next) {
		int result = region->watch.unarmed ? arm_again(region) : 0;

		if (result == 0)
			continue;
		if (result != SHMB_EBUSY) /* else the next answer makes room */
			try_later(client);
		return false;
	}
	return true;
}

void watch_arm_lost(struct shmb_client *client)
{
	if (client->n_unarmed == 0 || client->connection != CONNECTION_UP || client->gone)
		return;
	if (client->rearm_at != 0 && clock_now() < client->rearm_at)
		return;
	client->rearm_at = 0;
	for (size_t i = 0; i < WATCH_BUCKETS && client->n_unarmed > 0; i++)
		if (!arm_bucket(client, client->watched[i]))
			break;
}

int64_t watch_deadline(const struct shmb_client *client)
{
	bool may = client->n_unarmed > 0 && client->connection == CONNECTION_UP && !client->gone;

	return may ? client->rearm_at : 0;
}

void watch_rearmed(struct shmb_region *region, int code,
		   const struct wire_region_watch_result *seen)
{
	struct watch *watch = &region->watch;

	/* The broker will tell nothing more of what it does not know. */
	if (code == SHMB_ENOENT && watch->registered) {
		if (watch->events == 0)
			watch->event_size = watch->size;
		watch->events |= SHMB_EVENT_REMOVED;
	}
	watch_armed(region, code == 0 ? seen : NULL);
	if (code == 0 || code == SHMB_ENOENT || !watch->registered || region->client->gone)
		return;
	/* If it has been replaced meanwhile, arming it once more does no harm. */
	set_unarmed(region, true);
	try_later(region->client);
}

static unsigned look_at_counters(struct watch *watch)
{
	unsigned types = 0;

	if (watch->event_metadata != watch->metadata)
		types |= SHMB_EVENT_METADATA;
	if (watch->event_deaths != watch->deaths)
		types |= SHMB_EVENT_OWNER_DIED;
	watch->metadata = watch->event_metadata;
	watch->deaths = watch->event_deaths;
	return types;
}

/* What is new since it was last told. */
static struct shmb_event look(struct shmb_region *region)
{
	struct watch *watch = &region->watch;
	uint64_t now = layout_publish_sequence(region->page), size = watch->size;
	struct shmb_event event = {
		.struct_size = sizeof(event),
		.types = watch->events &
			 (SHMB_EVENT_REMOVED | SHMB_EVENT_DISCONNECTED | SHMB_EVENT_FILE),
		.sequence = now,
	};

	event.types |= look_at_counters(watch);
	if (watch->events & TYPES_WIRE)
		size = watch->event_size;
	if (now != watch->sequence)
		event.types |= SHMB_EVENT_PUBLISHED;
	if (size != watch->size)
		event.types |= SHMB_EVENT_RESIZED;
	event.types &= watch->types | SHMB_EVENT_DISCONNECTED;
	event.size = watch->events & TYPES_WIRE ? size : region_bytes(region);
	if (event.types & SHMB_EVENT_PUBLISHED)
		publish_range(region, watch->sequence, now, &event.offset, &event.length);
	watch->sequence = now;
	watch->size = size;
	watch->events = 0;
	/* Told once: a name does not come back. */
	watch->types &= ~(event.types & SHMB_EVENT_REMOVED);
	return event;
}

int watch_run(struct shmb_region *region)
{
	struct shmb_client *client = region->client;
	struct watch *watch = &region->watch;
	shmb_event_fn callback = watch->callback;
	void *userdata = watch->userdata;
	uint64_t serial = watch->serial;
	struct shmb_event event;

	if (!watch->registered || watch->n_arming > 0)
		return 0;
	event = look(region);
	if (event.types & SHMB_EVENT_DISCONNECTED) {
		watch_end(region);
		serial = watch->serial;
	}
	if (event.types != 0) {
		pthread_mutex_unlock(&client->mutex);
		callback(region, &event, userdata);
		if (client_forked(client))
			return SHMB_EFORKED;
		pthread_mutex_lock(&client->mutex);
	}
	/* Unless the callback, or another thread, ended or replaced it. */
	if (watch->registered && watch->serial == serial && rearm(region) < 0)
		queue(region); /* to be tried again; a watch must not end in silence */
	return event.types != 0;
}

/* ---- Asking for them ---- */

/* Return: 0 with the watch's serial and what to ask the broker for, or an error. */
static int begin(struct shmb_region *region, const struct watch *wanted, uint64_t *ret_serial,
		 struct wire_region_watch_params *ret_params)
{
	struct watch *watch = &region->watch;
	int result = 0;

	/* Under the mutex, as closing ends watches under it. */
	if (region_closed(region) || region->client->freed)
		return SHMB_ECLOSED;
	if (region->client->gone)
		return SHMB_EDISCONNECTED;
	if (wanted->types & SHMB_EVENT_FILE)
		result = begin_file(region);
	else
		end_file(region);
	if (result < 0)
		return result;
	if (!watch->registered)
		insert(region);
	watch->types = wanted->types | SHMB_EVENT_DISCONNECTED;
	watch->callback = wanted->callback;
	watch->userdata = wanted->userdata;
	watch->sequence = wanted->sequence;
	watch->size = region_bytes(region);
	watch->counted = false;
	watch->metadata = watch->event_metadata = watch->deaths = watch->event_deaths = 0;
	watch->events &= ~(unsigned)SHMB_EVENT_FILE;
	watch->serial++;
	watch->n_arming++;
	set_unarmed(region, false);
	*ret_serial = watch->serial;
	*ret_params = params_of(region);
	return 0;
}

/* Whether it is armed is not known, or it cannot be: be sure that it is not. */
static void give_up(struct shmb_region *region, uint64_t serial)
{
	if (!region->watch.registered || region->watch.serial != serial)
		return;
	watch_end(region);
	disarm(region);
}

static int arm(struct shmb_region *region, const struct watch *wanted, struct call *call)
{
	struct shmb_client *client = region->client;
	struct wire_region_watch_params params = { .types = 0 };
	struct shmb_error error = { .code = 0 };
	uint64_t serial = 0;
	bool abandoned;

	pthread_mutex_lock(&client->mutex);
	error.code = begin(region, wanted, &serial, &params);
	if (error.code == 0 && params.types == 0) { /* the rest shows by itself */
		disarm(region);
		watch_armed(region, NULL);
	}
	pthread_mutex_unlock(&client->mutex);
	if (error.code < 0 || params.types == 0) {
		call_free(call);
		return error.code < 0 ? region_refuse(region, error.code, NULL) : 0;
	}
	call->watching = region;
	abandoned = call_run(client, call, &params) < 0;
	if (!abandoned)
		error = call->error;
	else
		client_timed_out(client, WIRE_REGION_WATCH, &error);

	pthread_mutex_lock(&client->mutex);
	if (!abandoned) {
		if (call->watching) /* it could not even be sent */
			watch_armed(region, NULL);
		call_free(call);
	}
	if (error.code < 0)
		give_up(region, serial);
	pthread_mutex_unlock(&client->mutex);
	return error.code < 0 ? error_set(&region->error, &error) : 0;
}

static int end(struct shmb_region *region)
{
	pthread_mutex_lock(&region->client->mutex);
	if (region->watch.registered) {
		watch_end(region);
		disarm(region);
	}
	pthread_mutex_unlock(&region->client->mutex);
	return 0;
}

int shmb_region_watch(struct shmb_region *region, unsigned types, uint64_t seen,
		      shmb_event_fn callback, void *userdata)
{
	struct watch wanted = {
		.types = types,
		.sequence = seen,
		.callback = callback,
		.userdata = userdata,
	};
	int result = region_usable(region);
	struct call *call;

	if (result < 0)
		return region_refuse(region, result, NULL);
	if (types & ~(unsigned)TYPES_ALL)
		return region_refuse(region, SHMB_EINVAL, "types");
	if (types == 0)
		return end(region);
	if (!callback)
		return region_refuse(region, SHMB_EINVAL, "callback");
	call = call_new(WIRE_REGION_WATCH);
	return call ? arm(region, &wanted, call) : region_refuse(region, SHMB_ENOMEM, NULL);
}
