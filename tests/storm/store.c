/* SPDX-License-Identifier: MIT */
/*
 * The descriptor store: names and descriptors in an array, in the order in which they came. Knows
 * sd_notify(3)'s datagrams; knows nothing of what the descriptors are.
 */

#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

enum { NAME_MAX_BYTES = 4 };

struct stored {
	int fd;
	char name[NAME_MAX_BYTES + 1];
};

struct store {
	unsigned max, n;
	unsigned long long total;
	struct stored stored[];
};

void store_watch_senders(int notify)
{
	int on = 1;

	SYS(setsockopt(notify, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
}

static void take_control(struct store_notice *notice, const struct cmsghdr *header)
{
	size_t length = header->cmsg_len - CMSG_LEN(0);
	struct ucred sender;

	if (header->cmsg_type == SCM_CREDENTIALS) {
		memcpy(&sender, CMSG_DATA(header), sizeof(sender));
		notice->pid = sender.pid;
	} else if (header->cmsg_type == SCM_RIGHTS) {
		memcpy(notice->fds, CMSG_DATA(header), length);
		notice->n_fds = (unsigned)(length / sizeof(int));
	}
}

bool store_receive(int notify, struct store_notice *ret_notice)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(struct ucred)) +
			   CMSG_SPACE(NOTICE_FDS_MAX * sizeof(int))];
	} control;
	struct iovec data = { ret_notice->text, NOTICE_TEXT_MAX };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(notify, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return false;
	ret_notice->pid = 0;
	ret_notice->n_fds = 0;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header;
	     header = CMSG_NXTHDR(&message, header))
		take_control(ret_notice, header);
	memcpy(ret_notice->text + n, "\n", 2);
	return true;
}

struct store *store_new(unsigned max)
{
	struct store *store = calloc(1, sizeof(*store) + max * sizeof(store->stored[0]));

	CHECK(store);
	store->max = max;
	return store;
}

struct store *store_free(struct store *store)
{
	for (unsigned i = 0; store && i < store->n; i++)
		(void)close(store->stored[i].fd);
	free(store);
	return NULL;
}

static const char *name_of(const char *text, char ret_name[NAME_MAX_BYTES + 1])
{
	const char *at = strstr(text, "FDNAME=");
	size_t length = at ? strspn(at + 7, "0123456789abcdef") : 0;

	if (length == 0 || length > NAME_MAX_BYTES || at[7 + length] != '\n')
		return "this is no name of a descriptor";
	memcpy(ret_name, at + 7, length);
	ret_name[length] = '\0';
	return NULL;
}

static bool has(const struct store *store, const char *name, int fd)
{
	struct stat one, other;

	SYS(fstat(fd, &one));
	for (unsigned i = 0; i < store->n; i++) {
		if (strcmp(store->stored[i].name, name) != 0)
			continue;
		SYS(fstat(store->stored[i].fd, &other));
		if (one.st_dev == other.st_dev && one.st_ino == other.st_ino)
			return true;
	}
	return false;
}

static const char *add(struct store *store, struct store_notice *notice)
{
	char name[NAME_MAX_BYTES + 1];
	const char *complaint = name_of(notice->text, name);

	while (notice->n_fds > 0 && !complaint) {
		int fd = notice->fds[0];

		if (has(store, name, fd)) {
			(void)close(fd);
		} else if (store->n < store->max) {
			struct stored *place = &store->stored[store->n++];

			place->fd = fd;
			memcpy(place->name, name, sizeof(name));
			store->total++;
		} else {
			complaint = "the store is full";
			break;
		}
		memmove(&notice->fds[0], &notice->fds[1], --notice->n_fds * sizeof(int));
	}
	return complaint;
}

static const char *drop(struct store *store, const struct store_notice *notice)
{
	char name[NAME_MAX_BYTES + 1];
	const char *complaint = name_of(notice->text, name);
	unsigned left = 0;

	for (unsigned i = 0; i < store->n && !complaint; i++) {
		if (strcmp(store->stored[i].name, name) == 0)
			(void)close(store->stored[i].fd);
		else
			store->stored[left++] = store->stored[i];
	}
	if (!complaint)
		store->n = left;
	return complaint;
}

const char *store_take(struct store *store, struct store_notice *notice)
{
	const char *complaint = NULL;

	if (!store && strstr(notice->text, "FDSTORE"))
		complaint = "nobody offered a store";
	else if (strstr(notice->text, "FDSTOREREMOVE=1\n"))
		complaint = drop(store, notice);
	else if (strstr(notice->text, "FDSTORE=1\n"))
		complaint = notice->n_fds ? add(store, notice) : "descriptors are missing";
	while (notice->n_fds > 0)
		(void)close(notice->fds[--notice->n_fds]);
	return complaint;
}

unsigned store_count(const struct store *store)
{
	return store->n;
}

unsigned long long store_total(const struct store *store)
{
	return store->total;
}

int store_fd(const struct store *store, unsigned i)
{
	return store->stored[i].fd;
}

const char *store_name(const struct store *store, unsigned i)
{
	return store->stored[i].name;
}
