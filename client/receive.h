/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_RECEIVE_H
#define CLIENT_RECEIVE_H

/*
 * What comes in over the connection, and its end. The client's mutex is held.
 */

#include <shmbroker/shmbroker.h>

struct shmb_client;

/* receive_packets() - take up to @most packets that have arrived. Return: how many. */
unsigned receive_packets(struct shmb_client *client, unsigned most);

/* receive_wait() - wait for one packet without the mutex, for at most wait_limit_ms, and take it */
void receive_wait(struct shmb_client *client);

/* receive_disconnect() - the connection has ended, or is ended by us: code and what tell why. It
 * may come back. */
void receive_disconnect(struct shmb_client *client, int code, const char *what);

/* receive_give_up() - there is no way back */
void receive_give_up(struct shmb_client *client, const struct shmb_error *why);

#endif
