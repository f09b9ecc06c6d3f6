/* SPDX-License-Identifier: MIT */
/*
 * Descriptors in the service manager's store, by number. Must not know what is in them.
 *
 * What we send it arrives in order, so a number that was taken out can be used again at once. It
 * is trusted, and waited for if it is behind.
 */
#include "store.h"

#include "layout/step.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

void store_init(struct store *store)
{
	const char *text = getenv("FDSTORE"); /* as systemd sets it from version 254 on */
	unsigned long max = text ? strtoul(text, NULL, 10) : 0;

	*store = (struct store){ .lowest = 1 };
	if (getenv("NOTIFY_SOCKET"))
		store->max = max < STORE_MAX ? (uint32_t)max : STORE_MAX;
}

static bool is_taken(const struct store *store, uint32_t number)
{
	return store->taken[number / 64] >> (number % 64) & 1;
}

static void mark(struct store *store, uint32_t number, bool taken)
{
	uint64_t bit = UINT64_C(1) << (number % 64);

	if (taken)
		store->taken[number / 64] |= bit;
	else
		store->taken[number / 64] &= ~bit;
	if (!taken && number < store->lowest)
		store->lowest = number;
}

/* Return: 0: none is free. */
static uint32_t take_number(struct store *store)
{
	uint32_t number = store->lowest;

	while (number < STORE_MAX && is_taken(store, number))
		number++;
	store->lowest = number;
	if (number == STORE_MAX)
		return 0;
	mark(store, number, true);
	return number;
}

static void take_out(uint32_t number)
{
	int result;

	do /* It waits while the store is behind, and a signal may come then. */
		result = sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%x", (unsigned)number);
	while (result == -EINTR);
}

static int put_in(uint32_t number, const int *fds, unsigned n)
{
	char text[64];
	int result;

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%x", (unsigned)number);
	do
		result = sd_pid_notify_with_fds(0, 0, text, fds, n);
	while (result == -EINTR);
	return result > 0 ? 0 : result < 0 ? result : -ENOTCONN;
}

/* Those of a set that have been made and are descriptors. Return: how many, or a negative errno. */
static int collect(struct segments *segments, unsigned which, int fds[SEGMENT_COUNT])
{
	struct stat st;
	int n = 0;

	for (int i = 0; i < SEGMENT_COUNT; i++) {
		if (!(which & SEGMENT_BIT(i)) || !segments->made[i] || segments->fds[i] < 0)
			continue;
		if (fstat(segments->fds[i], &st) < 0)
			return -errno;
		segments->inodes[i] = st.st_ino;
		fds[n++] = segments->fds[i];
	}
	return n;
}

int store_keep(struct store *store, struct segments *segments, unsigned which)
{
	int fds[SEGMENT_COUNT];
	uint32_t number;
	int n, result;

	if (store->max == 0)
		return 0;
	n = collect(segments, which, fds);
	if (n <= 0)
		return n;
	number = take_number(store);
	if (number == 0)
		return -ENFILE;
	result = put_in(number, fds, (unsigned)n);
	STEP();
	if (result < 0) {
		mark(store, number, false);
		return result;
	}
	for (int i = 0; i < SEGMENT_COUNT; i++)
		if (which & SEGMENT_BIT(i) && segments->made[i] && segments->fds[i] >= 0)
			segments->stored[i] = number;
	store->n_fds += (uint32_t)n;
	return 0;
}

void store_drop(struct store *store, struct segments *segments, unsigned which)
{
	for (int i = 0; i < SEGMENT_COUNT; i++) {
		uint32_t number = segments->stored[i];

		if (!(which & SEGMENT_BIT(i)) || number == 0)
			continue;
		store->n_fds--;
		segments->stored[i] = 0;
		if (!is_taken(store, number))
			continue; /* a segment of the same number was before it */
		take_out(number);
		mark(store, number, false);
	}
}

bool store_claim(struct store *store, uint32_t number)
{
	if (number == 0 || number >= STORE_MAX)
		return false;
	mark(store, number, true);
	store->n_fds++;
	return true;
}

void store_disown(const struct store *store, uint32_t number)
{
	if (!is_taken(store, number))
		take_out(number);
}
