/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_LOOP_H
#define CLIENT_LOOP_H

/*
 * For programs with an event loop: what wakes it, and what shmb_client_process() has to do. The
 * client's mutex is held, except where told.
 */

#include <stdbool.h>
#include <sys/queue.h>

enum { PACKETS_PER_PROCESS = 64 }; /* so that a busy broker cannot keep shmb_client_process() */

/* Work for shmb_client_process(), in the order in which it came up. */
struct work {
	TAILQ_ENTRY(work) link;
	enum { WORK_CALL, WORK_REGION, WORK_OPERATION } kind;
	bool queued;
};

TAILQ_HEAD(work_queue, work);

struct call;
struct shmb_client;

/* loop_queue(), loop_unqueue() - work for shmb_client_process() */
void loop_queue(struct shmb_client *client, struct work *work);
void loop_unqueue(struct shmb_client *client, struct work *work);

/* loop_output_changed() - output began or ceased to wait */
void loop_output_changed(struct shmb_client *client);

/*
 * loop_start_call() - start a call that shmb_client_process() ends; no mutex held
 *
 * Return: as call_start(); the call stays the caller's if it fails.
 */
int loop_start_call(struct shmb_client *client, struct call *call, const void *params);

/* loop_deadline_changed() - an asynchronous call came or went, or when to connect again */
void loop_deadline_changed(struct shmb_client *client);

/* loop_watch(), loop_unwatch() - look at a connection's socket, or no longer. Return: 0, or -1: it
 * cannot be looked at now. */
int loop_watch(struct shmb_client *client, int socket);
void loop_unwatch(struct shmb_client *client, int socket);

/* loop_watch_connection() - look at the connection; if that fails it is tried again */
void loop_watch_connection(struct shmb_client *client);

/* loop_disconnected() - stop looking at the socket, wake the loop */
void loop_disconnected(struct shmb_client *client);
void loop_close(struct shmb_client *client);

#endif
