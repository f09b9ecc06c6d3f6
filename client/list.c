/* SPDX-License-Identifier: MIT */
/*
 * Walking a list page by page, one bounded request each. Does not know what is listed.
 */

#include "list.h"

#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "client.h"

int page_take(struct page *page, size_t n_infos, bool more, const struct wire_bytes *cursor)
{
	if (n_infos > LIST_PAGE_MAX || cursor->length > LIST_CURSOR_MAX)
		return SHMB_EPROTO;
	/* The same cursor again would never end. */
	if (more && page->cursor_length == cursor->length &&
	    memcmp(page->cursor, cursor->data, cursor->length) == 0)
		return SHMB_EPROTO;
	page->n_infos = n_infos;
	page->cursor_length = more ? cursor->length : 0;
	if (more)
		memcpy(page->cursor, cursor->data, cursor->length);
	return 0;
}

static int next_page(struct shmb_client *client, const struct list_kind *kind, const char *prefix,
		     struct page *page)
{
	struct wire_region_list_params params = { .has = 0 };
	/* The parameters point into it, and the answer is written over it. */
	char cursor[LIST_CURSOR_MAX];

	if (client_forked(client)) /* by the callback */
		return SHMB_EFORKED;
	if (prefix[0]) {
		params.has |= WIRE_HAS(region_list_params, prefix);
		params.prefix = wire_string(prefix);
	}
	if (page->cursor_length > 0) {
		memcpy(cursor, page->cursor, page->cursor_length);
		params.has |= WIRE_HAS(region_list_params, cursor);
		params.cursor = (struct wire_bytes){ cursor, page->cursor_length };
	}
	return call_ask(client, &client->error, kind->method, &params, kind->take, page);
}

static int walk(struct shmb_client *client, const struct list_kind *kind, const char *prefix,
		struct page *page, shmb_any_fn *callback, void *userdata)
{
	int result;

	do {
		result = next_page(client, kind, prefix, page);
		for (size_t i = 0; result == 0 && i < page->n_infos; i++)
			result = kind->tell((char *)page->infos + i * kind->info_size, callback,
					    userdata);
	} while (result == 0 && page->cursor_length > 0);
	return result;
}

int list_walk(struct shmb_client *client, const struct list_kind *kind, const char *prefix,
	      shmb_any_fn *callback, void *userdata)
{
	struct page page = { .infos = NULL };
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	if (!prefix)
		prefix = "";
	if (prefix[0] && !wire_name_check(prefix, strlen(prefix), true))
		return error_note(&client->error, SHMB_EINVAL, "prefix");
	if (!callback)
		return error_note(&client->error, SHMB_EINVAL, "callback");
	page.infos = calloc(LIST_PAGE_MAX, kind->info_size);
	if (!page.infos)
		return error_note(&client->error, SHMB_ENOMEM, NULL);
	result = walk(client, kind, prefix, &page, callback, userdata);
	free(page.infos);
	return result;
}
