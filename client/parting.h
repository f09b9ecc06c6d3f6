/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_PARTING_H
#define CLIENT_PARTING_H

/*
 * The end of a session that somebody else should hear of.
 */

struct shmb_client;

/*
 * parting() - the last reference goes: see that the broker knows, for at most a tenth of a second;
 * no mutex, no other thread
 */
void parting(struct shmb_client *client);

#endif
