/* SPDX-License-Identifier: MIT */
/*
 * Descriptors passed by the service manager. Must not know what they are for.
 */
#include "activation.h"

#include "log.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
	const struct stored *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

/* Our numbers in the store; 0: another's name. */
static uint32_t number_of(const char *name)
{
	unsigned long number;

	if (!name || strlen(name) > 4 || strspn(name, "0123456789abcdef") != strlen(name))
		return 0;
	number = strtoul(name, NULL, 16);
	return number < STORE_MAX ? (uint32_t)number : 0;
}

static void take_one(struct activation *activation, int fd, const char *name)
{
	uint32_t number = number_of(name);
	struct stat st;

	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (activation->listener < 0 && sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 1) > 0) {
		activation->listener = fd;
	} else if (number && fstat(fd, &st) == 0) {
		activation->stored[activation->n_stored++] =
			(struct stored){ .number = number, .fd = fd, .inode = st.st_ino };
	} else {
		activation->n_others++;
		log_warning("descriptor %d (%s) of the service manager is of no use", fd,
			    name ? name : "");
		close(fd);
	}
}

int activation_take(struct activation *activation)
{
	char **names = NULL;
	int count = sd_listen_fds_with_names(1, &names);

	*activation = (struct activation){ .listener = -1 };
	if (count < 0)
		return count;
	if (count == 0)
		return 0;
	activation->stored = calloc((size_t)count, sizeof(*activation->stored));
	for (int i = 0; i < count && activation->stored; i++)
		take_one(activation, SD_LISTEN_FDS_START + i, names ? names[i] : NULL);
	for (int i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
	if (!activation->stored)
		return -ENOMEM;
	qsort(activation->stored, activation->n_stored, sizeof(*activation->stored), compare);
	return 0;
}

int activation_claim(struct activation *activation, uint32_t number, uint64_t inode)
{
	const struct stored key = { .number = number };
	struct stored *at, *end;

	if (activation->n_stored == 0)
		return -1;
	end = activation->stored + activation->n_stored;
	at = bsearch(&key, activation->stored, activation->n_stored, sizeof(key), compare);
	if (!at)
		return -1;
	while (at > activation->stored && at[-1].number == number)
		at--;
	for (; at < end && at->number == number; at++) {
		int fd = at->fd;

		if (fd < 0 || at->inode != inode)
			continue;
		at->fd = -1;
		return fd;
	}
	return -1;
}

size_t activation_deinit(struct activation *activation, const struct store *store)
{
	size_t unclaimed = 0;

	for (size_t i = 0; i < activation->n_stored; i++) {
		struct stored *stored = &activation->stored[i];

		if (stored->fd < 0)
			continue;
		close(stored->fd);
		unclaimed++;
		store_disown(store, stored->number);
	}
	free(activation->stored);
	activation->stored = NULL;
	activation->n_stored = 0;
	return unclaimed;
}
