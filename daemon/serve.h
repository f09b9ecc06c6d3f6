/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SERVE_H
#define DAEMON_SERVE_H

/* What the methods of all kinds of objects have in common: names, who may know of what, lists. */

#include "dispatch.h"
#include "region.h"

#include <shmbroker/shmbroker.h>

struct ticket;

struct name {
	char text[SHMB_NAME_MAX + 1];
};

/* serve_copy_name() - Return: false: it is none (with @prefix: nor the beginning of one) */
bool serve_copy_name(struct wire_bytes bytes, bool prefix, struct name *ret_name);

/* serve_rights() - of the caller, enum shmb_access */
unsigned serve_rights(const struct request *request, const struct region *region);
bool serve_visible(const struct request *request, const struct region *region);

/* serve_find() - an object of one kind (0: any) that the caller may know of */
int serve_find(struct request *request, struct wire_bytes bytes, enum object_kind kind,
	       struct region **ret_region);
int serve_find_owned(struct request *request, struct wire_bytes bytes, enum object_kind kind,
		     struct region **ret_region);
int serve_find_attachment(struct request *request, uint64_t handle,
			  struct attachment **ret_attachment);

/* serve_find_region() - the same of a region alone; handles of locks and semaphores are none */
int serve_find_region(struct request *request, uint64_t handle, struct attachment **ret_attachment);

/*
 * serve_attach() - attach to a region and answer with the descriptors; if they cannot be sent the
 * attachment is undone
 * @access: allowed already
 * @used:   a ticket that ends with it; NULL: none
 */
int serve_attach(struct request *request, struct region *region, unsigned access, bool created,
		 struct ticket *used);

/*
 * serve_make() - find the object of that name, or make it
 * @open_existing: of the request
 * @create:        what to make; its name is filled in
 * @ret_created:   it was made, and has no attachment yet; serve_unmake() if it gets none
 */
int serve_make(struct request *request, struct wire_bytes bytes, bool open_existing,
	       struct region_request *create, struct region **ret_region, bool *ret_created);
void serve_unmake(struct request *request, struct wire_bytes name);

/*
 * serve_..._again() - give the answer that may have been lost: that this attachment was made
 *
 * Return: 0, or ANSWER_FAILED.
 */
int serve_region_again(struct request *request, struct attachment *attachment, bool created);
int serve_lock_again(struct request *request, struct attachment *attachment, bool created);
int serve_semaphore_again(struct request *request, struct attachment *attachment, bool created);

/* One page of a list, as it is being collected. */
struct page {
	const struct wire_region_list_params *params;
	unsigned entries_max; /* on a page */
	bool (*wanted)(const struct region *region);
	/* Adds an entry. Return: 0, or a negative errno: leave it out. */
	int (*add)(struct request *request, struct region *region, void *userdata, size_t index);
	/* How many slots have to be looked at for an entry; NULL: none. A page ends early with
	 * SLOTS_PER_PAGE: others wait for it. */
	uint32_t (*n_slots)(const struct region *region);
	void *userdata;

	size_t n_entries;
	uint32_t slots_seen;
	bool more;
	struct name cursor; /* for the next page, if there is more */
};

/* serve_page() - collect the entries, set n_entries, more and cursor */
int serve_page(struct request *request, struct page *page);

#endif
