/* SPDX-License-Identifier: MIT */
/*
 * The methods that make regions of files. Must not touch sockets or uv; the descriptors have been
 * examined.
 */
#include "adopt.h"
#include "arena.h"
#include "broker.h"
#include "growth.h"
#include "layout/lock.h"
#include "peer.h"
#include "records.h"
#include "serve.h"
#include "session.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

int serve_adopt_begin(struct request *request)
{
	int result;

	if (!adopt_allowed(request->broker, request->session->identity.uid))
		return answer_fail(&request->failure, SHMB_EACCES, "allow-adopt");
	result = adopt_begin(request->peer);
	if (result < 0)
		return answer_fail_system(&request->failure, result, "accepting descriptors");
	return request_answer(request, &(struct wire_empty){ 0 });
}

static bool has_stored(const struct segments *segments, int fd, ino_t inode)
{
	for (int i = 0; i < SEGMENT_COUNT; i++)
		if (segments->stored[i] && segments->inodes[i] == inode &&
		    adopt_is_same(fd, segments->fds[i]))
			return true;
	return false;
}

/* What the region will be, and stored from then on. */
static bool grows_into(const struct region *region, int fd)
{
	int begun = growth_fd(region);

	return begun >= 0 && adopt_is_same(fd, begun);
}

/* systemd(1) drops what it has already, and the next daemon would miss it. */
static bool is_stored(const struct broker *broker, int fd, ino_t inode)
{
	const struct region *region;
	const struct arena *arena;

	DL_FOREACH2(broker->regions.all, region, next)
		if (has_stored(&region->segments, fd, inode) || grows_into(region, fd))
			return true;
	DL_FOREACH(broker->arenas, arena)
		if (has_stored(&arena->segments, fd, inode))
			return true;
	return false;
}

static int check_store(struct request *request, ino_t inode, bool read_only)
{
	const struct broker *broker = request->broker;

	if (broker->store.max == 0 || (!is_stored(broker, request->fds[0], inode) &&
				       (read_only || !is_stored(broker, request->fds[1], inode))))
		return 0;
	return answer_fail(&request->failure, SHMB_EBUSY, "fds: open the file again");
}

static int check_file(struct request *request, const struct wire_region_adopt_params *params,
		      struct region_request *adopt)
{
	struct stat st;

	if (fstat(request->fds[0], &st) < 0)
		return answer_fail(&request->failure, SHMB_EIO, "fds");
	if ((uint64_t)st.st_size < params->size)
		return answer_fail_limit(&request->failure, SHMB_EINVAL, "size",
					 (uint64_t)st.st_size);
	adopt->read_only = (fcntl(request->fds[0], F_GETFL) & O_ACCMODE) == O_RDONLY;
	return check_store(request, st.st_ino, adopt->read_only);
}

static struct region_request wanted(const struct request *request)
{
	const struct wire_region_adopt_params *params = request->params;
	struct region_request adopt = {
		.kind = OBJECT_REGION,
		.size = params->size,
		.capacity = params->size,
		.mode = 0700,
		.n_slots = LAYOUT_LOCK_SLOTS_DEFAULT,
		.lifetime = (unsigned)params->lifetime,
		.backing = SHMB_BACKING_FILE,
		.fds = request->fds,
	};

	if (params->has & WIRE_HAS(region_adopt_params, mode))
		adopt.mode = (uint32_t)params->mode;
	if (params->has & WIRE_HAS(region_adopt_params, slots))
		adopt.n_slots = (uint32_t)params->slots;
	return adopt;
}

int serve_region_adopt(struct request *request)
{
	const struct wire_region_adopt_params *params = request->params;
	struct region_request adopt = wanted(request);
	unsigned access = SHMB_READ | SHMB_WRITE;
	char path[PATH_BYTES + 1] = "";
	struct region *region;
	bool created;
	int result;

	if (params->has & WIRE_HAS(region_adopt_params, access))
		access = (unsigned)params->access;
	if (params->has & WIRE_HAS(region_adopt_params, path)) {
		memcpy(path, params->path.data, params->path.length);
		adopt.path = path;
	}
	if (!(access & SHMB_READ))
		return answer_fail(&request->failure, SHMB_EINVAL, "access");
	result = check_file(request, params, &adopt);
	if (result == 0 && access & SHMB_WRITE && adopt.read_only)
		result = answer_fail(&request->failure, SHMB_EMODE, "fds");
	if (result == 0)
		result = serve_make(request, params->name, false, &adopt, &region, &created);
	if (result != 0)
		return result;
	result = serve_attach(request, region, access, true, NULL);
	if (result != 0)
		serve_unmake(request, params->name);
	return result;
}
