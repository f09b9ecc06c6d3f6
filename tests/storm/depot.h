/* SPDX-License-Identifier: MIT */
#ifndef STORM_DEPOT_H
#define STORM_DEPOT_H

/*
 * A descriptor store as service managers keep it: the daemon sends descriptors with its
 * notifications, and gets them back when it is started again. It takes nothing amiss in silence.
 */

#include <stdbool.h>
#include <sys/types.h>

enum { NOTICE_FDS_MAX = 253, NOTICE_TEXT_MAX = 4096 };

/* One notification. Its descriptors are consumed by depot_take(). */
struct depot_notice {
	char text[NOTICE_TEXT_MAX + 2]; /* lines, the last one ended, too */
	pid_t pid;                      /* of the sender */
	int fds[NOTICE_FDS_MAX];
	unsigned n_fds;
};

/* depot_watch_senders() - so that notices of @notify say who sent them */
void depot_watch_senders(int notify);

/* depot_receive() - the next one. Return: false: there is none now. */
bool depot_receive(int notify, struct depot_notice *ret_notice);

struct depot;

struct depot *depot_new(unsigned max);
struct depot *depot_free(struct depot *depot);

/*
 * depot_take() - do what a notice says of the store; one without may still bring descriptors
 * @depot: may be NULL
 *
 * Return: NULL, or what is wrong with it: more than there is room for, which a service manager
 * would drop without a word, or a name that nobody may use.
 */
const char *depot_take(struct depot *depot, struct depot_notice *notice);

unsigned depot_count(const struct depot *depot);
unsigned long long depot_total(const struct depot *depot); /* that were ever put into it */
int depot_fd(const struct depot *depot, unsigned i);
const char *depot_name(const struct depot *depot, unsigned i);

#endif
