/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_LIST_H
#define CLIENT_LIST_H

/* Lists come in pages with a cursor, whatever they are of. */

#include "calls.h"

enum { LIST_PAGE_MAX = 64, LIST_CURSOR_MAX = 200 };

struct page {
	size_t n_infos;
	size_t cursor_length; /* 0: the last page */
	char cursor[LIST_CURSOR_MAX];
	void *infos; /* LIST_PAGE_MAX of what is listed */
};

/* Stands for the callback of any list; only ever called as what it is. */
typedef void shmb_any_fn(void);

struct list_kind {
	enum wire_method_id method; /* takes region_list_params */
	size_t info_size;
	/* Fills a page, call->context, from a result; begins with page_take(). */
	int (*take)(struct call *call, const void *result);
	/* Calls the callback with one of them. */
	int (*tell)(const void *info, shmb_any_fn *callback, void *userdata);
};

/* page_take() - how many there are, and where it goes on. Return: 0 or SHMB_EPROTO. */
int page_take(struct page *page, size_t n_infos, bool more, const struct wire_bytes *cursor);

/* list_walk() - Return: as shmb_region_list() */
int list_walk(struct shmb_client *client, const struct list_kind *kind, const char *prefix,
	      shmb_any_fn *callback, void *userdata);

#endif
