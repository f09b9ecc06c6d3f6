/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_RESUME_H
#define CLIENT_RESUME_H

/*
 * Going on with the session over another connection, when the broker died. The client's mutex is
 * held.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

enum {
	RESUME_PATH_BYTES = 256,
	RESUME_NAME_BYTES = 64,
	RESUME_TOKEN_BYTES = 16,
	RESUME_MSGID = 0, /* of the hello; no call has it */
};

/* What it takes to go on with the session over another connection; see resume.c. */
struct resume {
	bool known; /* to the broker, which can go on with it */
	char token[RESUME_TOKEN_BYTES];
	char path[RESUME_PATH_BYTES];
	char name[RESUME_NAME_BYTES]; /* as shown by the broker; not NUL-terminated */
	size_t name_length;
	int away_ms;     /* -1: for ever */
	int socket;      /* of the new connection, until the session goes on over it; else -1 */
	int64_t began;   /* nanoseconds, as all that follows: when this connection was made */
	int64_t give_up; /* 0: never */
	int64_t next;    /* when to try again */
	int64_t backoff; /* what was waited last; 0: nothing yet */
	uint32_t random; /* so that not all clients of a broker come at once */
};

struct shmb_client;

/* resume_keep() - what is needed for it, before the first hello: the broker's path, our name */
void resume_keep(struct shmb_client *client, const char *path, const char *name);

/* resume_hello() - the first hello, or one that asks for our session */
struct wire_hello_params resume_hello(const struct shmb_client *client, bool again);

/* resume_check() - the broker's answer to hello: what we keep of it. Return: 0 or SHMB_EVERSION. */
int resume_check(struct shmb_client *client, const struct wire_hello_result *hello);

/*
 * resume_begin() - the connection broke
 * @hung_up: the broker died, as far as one can tell
 *
 * Return: false: there is no way back.
 */
bool resume_begin(struct shmb_client *client, bool hung_up);

/* resume_advance() - do what can be done now, without blocking; of those who may read, one does it
 */
void resume_advance(struct shmb_client *client);

/* resume_wait() - the same after waiting for something to do; for the reader; lets go of the mutex
 */
void resume_wait(struct shmb_client *client, int64_t deadline);

/* resume_deadline() - when an event loop has to advance; 0: it need not */
int64_t resume_deadline(const struct shmb_client *client);

/* resume_say_hello() - over a new connection. Return: 0, or a negative errno. */
int resume_say_hello(struct shmb_client *client, int socket);

#endif
