/* SPDX-License-Identifier: MIT */
/*
 * Tickets: how another process attaches to a region that it cannot name, or may not open. The
 * broker makes and remembers them; here they are turned into text and back.
 */

#include <stdio.h>
#include <string.h>

#include "calls.h"
#include "client.h"
#include "make.h"
#include "region.h"

enum {
	ACCESS_ALL = SHMB_READ | SHMB_WRITE | SHMB_LOCK,
	TICKET_BYTES = 16,
};

/* Who may write may read, as far as the broker is concerned. */
static unsigned wire_access(unsigned access)
{
	return access & SHMB_WRITE ? access | SHMB_READ : access;
}

static bool is_access(unsigned access)
{
	return access & (SHMB_READ | SHMB_WRITE) && !(access & ~(unsigned)ACCESS_ALL);
}

/* ---- Giving one away ---- */

static int take_ticket(struct call *call, const void *result)
{
	const struct wire_bytes *bytes =
		&((const struct wire_region_ticket_result *)result)->ticket;
	struct shmb_ticket *ticket = call->context;

	for (size_t i = 0; i < TICKET_BYTES; i++)
		snprintf(ticket->text + 2 * i, 3, "%02x", (unsigned char)bytes->data[i]);
	return 0;
}

int shmb_region_ticket(struct shmb_region *region, unsigned access, struct shmb_ticket *ret_ticket)
{
	struct wire_region_ticket_params params = {
		.handle = region->handle,
		.access = wire_access(access),
	};
	struct shmb_ticket ticket;
	int result = region_usable(region);

	if (result < 0)
		return region_refuse(region, result, NULL);
	if (!is_access(access))
		return region_refuse(region, SHMB_EINVAL, "access");
	if (access & ~shmb_region_access(region))
		return region_refuse(region, SHMB_EMODE, "access");
	result = call_ask(region->client, &region->error, WIRE_REGION_TICKET, &params, take_ticket,
			  &ticket);
	if (result == 0)
		*ret_ticket = ticket;
	return result;
}

/* ---- Using one ---- */

static int digit(char character)
{
	const char digits[] = "0123456789abcdefABCDEF";
	const char *found = character != '\0' ? strchr(digits, character) : NULL;
	int value = found ? (int)(found - digits) : -1;

	return value < 16 ? value : value - 6;
}

/* Return: false if it is not the text of one. */
static bool read_ticket(const char *text, char ret_bytes[TICKET_BYTES])
{
	for (size_t i = 0; i < TICKET_BYTES; i++) {
		int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);

		if (low < 0)
			return false;
		ret_bytes[i] = (char)(high << 4 | low);
	}
	return text[(size_t)2 * TICKET_BYTES] == '\0';
}

int shmb_region_redeem(struct shmb_client *client, const char *ticket, unsigned access,
		       const struct shmb_region_options *options, struct shmb_region **ret_region)
{
	char bytes[TICKET_BYTES];
	struct request request;
	int result;

	if (client_forked(client))
		return SHMB_EFORKED;
	if (!ticket || !read_ticket(ticket, bytes))
		return request_refuse(client, "ticket");
	result = request_options(client, options, access, &request);
	if (result == 0)
		result = request_new_call(client, WIRE_REGION_REDEEM, "", &request);
	if (result < 0)
		return result;
	request.params.redeem = (struct wire_region_redeem_params){
		.ticket = { bytes, sizeof(bytes) },
		.access = request.options.access,
	};
	result = request_run(client, &request, 0, ret_region);
	return result < 0 ? result : 0;
}
