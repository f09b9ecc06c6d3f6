/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAKE_H
#define CLIENT_MAKE_H

/* Between those who ask for regions: make.c (created, opened), adopt.c (made of files), ticket.c.
 */

#include <shmbroker/shmbroker.h>

#include "calls.h"

enum { REQUEST_PATH_BYTES = 1024 };

/* One for a region, before it is sent. */
struct request {
	struct shmb_region_options options; /* .access: what the broker is asked for */
	unsigned access;                    /* what the handle may do then */
	struct call *call;
	union {
		struct wire_region_create_params create;
		struct wire_region_open_params open;
		struct wire_region_adopt_params adopt;
		struct wire_region_redeem_params redeem;
	} params;
	char path[REQUEST_PATH_BYTES]; /* adopt.path points here */
};

/* request_refuse() - keep what is wrong. Return: SHMB_EINVAL. */
int request_refuse(struct shmb_client *client, const char *what);

/*
 * request_options() - begin with what a program gave for a handle that exists already, or will
 * @access: what is asked for
 *
 * Return: 0 or SHMB_EINVAL, which the client keeps.
 */
int request_options(struct shmb_client *client, const struct shmb_region_options *options,
		    unsigned access, struct request *request);

/* request_new_call() - request->call, of a region that is or will be called @name; "": it is not.
 * Return: 0, or SHMB_ENOMEM, which the client keeps. */
int request_new_call(struct shmb_client *client, enum wire_method_id method, const char *name,
		     struct request *request);

/* request_open() - everything for region.open. Return: 0 or an error, which the client keeps. */
int request_open(struct shmb_client *client, const char *name, struct request *request);

/*
 * request_run() - send it, wait, make the region; consumes the call
 * @expected: an error of the broker's that is no failure, and not kept; 0: there is none
 *
 * Return: 1 (it was created), 0, or an error.
 */
int request_run(struct shmb_client *client, struct request *request, int expected,
		struct shmb_region **ret_region);

/* make_again() - in place of a call that failed, if there is anything less to ask for. Return:
 * false: it failed. */
bool make_again(struct shmb_client *client, const struct call *call);

/* ---- adopt.c: with request->options of SHMB_BACKING_FILE, which have been checked ---- */

/*
 * adopt_prepare() - open the file, and make the call
 * @name:      "" for none
 * @ret_taken: set if the name is, and nothing has been done
 *
 * Asks the broker whether descriptors may be passed, and with some flags about the name.
 *
 * Return: 0 or an error, which the client keeps, except with *ret_taken.
 */
int adopt_prepare(struct shmb_client *client, const char *name, uint64_t size,
		  struct request *request, bool *ret_taken);

/* adopt_or_open() - of several that race, one adopts. Return: as shmb_region_open_or_create(). */
int adopt_or_open(struct shmb_client *client, const char *name, uint64_t size,
		  const struct request *request, struct shmb_region **ret_region);

#endif
