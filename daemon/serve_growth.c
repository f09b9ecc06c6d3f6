/* SPDX-License-Identifier: MIT */
/*
 * The methods of regions that move to a larger data segment. Must not touch sockets or uv.
 */
#include "broker.h"
#include "growth.h"
#include "log.h"
#include "peer.h"
#include "serve.h"
#include "session.h"

#include <unistd.h>

/* Sends @fd, which it consumes. */
static int answer_with(struct request *request, const void *answer, int fd)
{
	int result =
		peer_answer_fds(request->peer, request->msgid, request->method, answer, &fd, 1);

	close(fd);
	if (result < 0)
		return answer_fail_system(&request->failure, result, "sending descriptors");
	log_end(LOG_TOO_MANY_IN_FLIGHT);
	return 0;
}

static int check_grower(struct request *request, const struct attachment *attachment)
{
	if (!request->wants_reply)
		return answer_fail(&request->failure, SHMB_EINVAL, "notification");
	if (!(attachment->access & SHMB_WRITE))
		return answer_fail(&request->failure, SHMB_EMODE, "access");
	return 0;
}

int serve_region_grow(struct request *request)
{
	const struct wire_region_grow_params *params = request->params;
	struct wire_region_grow_result answer = { .capacity = params->capacity };
	struct attachment *attachment;
	int fd, result = serve_find_region(request, params->handle, &attachment);

	if (result != 0)
		return result;
	growth_detach(request->broker, attachment); /* whatever becomes of this one */
	result = check_grower(request, attachment);
	if (result == 0)
		result = growth_begin(request->broker, attachment, params->capacity, &fd,
				      &request->failure);
	return result ? result : answer_with(request, &answer, fd);
}

int serve_region_grown(struct request *request)
{
	const struct wire_region_grown_params *params = request->params;
	struct attachment *attachment;
	int result = serve_find_region(request, params->handle, &attachment);

	if (result == 0)
		result = check_grower(request, attachment);
	if (result == 0)
		result = growth_check(request->broker, attachment, params->size,
				      params->has & WIRE_HAS(region_grown_params, writing)
					      ? &params->writing
					      : NULL,
				      &request->failure);
	if (result != 0)
		return result;
	request_done(request, NULL, false);
	growth_end(request->broker, attachment->region, params->size);
	return request_answer(request, &(struct wire_empty){ 0 });
}

int serve_region_data(struct request *request)
{
	const struct wire_region_handle *params = request->params;
	struct wire_region_data_result answer;
	struct attachment *attachment;
	struct region *region;
	int fd, result = serve_find_region(request, params->handle, &attachment);

	if (result != 0)
		return result;
	if (!request->wants_reply)
		return answer_fail(&request->failure, SHMB_EINVAL, "notification");
	region = attachment->region;
	fd = segments_open(&region->segments, request->broker->instance.id, SEGMENT_DATA,
			   attachment->access & SHMB_WRITE);
	if (fd < 0)
		return answer_fail_system(&request->failure, fd, "opening the region's memory");
	answer = (struct wire_region_data_result){ .generation = region->segments.generation,
						   .size = region->size,
						   .capacity = region->capacity };
	return answer_with(request, &answer, fd);
}
