/* SPDX-License-Identifier: MIT */
#ifndef STORM_STORE_H
#define STORM_STORE_H

/*
 * A descriptor store as service managers keep it: the daemon sends descriptors with its
 * notifications, and gets them back when it is started again.
 */

#include <stdbool.h>
#include <sys/types.h>

enum { NOTICE_FDS_MAX = 253, NOTICE_TEXT_MAX = 4096 };

/* One notification. Its descriptors are consumed by store_take(). */
struct store_notice {
	char text[NOTICE_TEXT_MAX + 2]; /* lines, the last one ended, too */
	pid_t pid;                      /* of the sender */
	int fds[NOTICE_FDS_MAX];
	unsigned n_fds;
};

/* store_watch_senders() - so that notices of @notify say who sent them */
void store_watch_senders(int notify);

/* store_receive() - the next one. Return: false: there is none now. */
bool store_receive(int notify, struct store_notice *ret_notice);

struct store;

struct store *store_new(unsigned max);
struct store *store_free(struct store *store);

/*
 * store_take() - do what a notice says of the store; one without may still bring descriptors
 * @store: may be NULL
 *
 * Return: NULL, or what is wrong with it: more than there is room for, which a service manager
 * would drop without a word, or a name that nobody may use.
 */
const char *store_take(struct store *store, struct store_notice *notice);

unsigned store_count(const struct store *store);
unsigned long long store_total(const struct store *store); /* that were ever put into it */
int store_fd(const struct store *store, unsigned i);
const char *store_name(const struct store *store, unsigned i);

#endif
