/* SPDX-License-Identifier: MIT */
/*
 * The descriptor store: names and descriptors in an array, in the order in which they came. Knows
 * sd_notify(3)'s datagrams; knows nothing of what the descriptors are.
 */

#include "depot.h"

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

struct depot {
	unsigned max, n;
	unsigned long long total;
	struct stored stored[];
};

void depot_watch_senders(int notify)
{
	int on = 1;

	SYS(setsockopt(notify, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
}

static void take_control(struct depot_notice *notice, const struct cmsghdr *header)
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

bool depot_receive(int notify, struct depot_notice *ret_notice)
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

struct depot *depot_new(unsigned max)
{
	struct depot *depot = calloc(1, sizeof(*depot) + max * sizeof(depot->stored[0]));

	CHECK(depot);
	depot->max = max;
	return depot;
}

struct depot *depot_free(struct depot *depot)
{
	for (unsigned i = 0; depot && i < depot->n; i++)
		(void)close(depot->stored[i].fd);
	free(depot);
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

static bool has(const struct depot *depot, const char *name, int fd)
{
	struct stat one, other;

	SYS(fstat(fd, &one));
	for (unsigned i = 0; i < depot->n; i++) {
		if (strcmp(depot->stored[i].name, name) != 0)
			continue;
		SYS(fstat(depot->stored[i].fd, &other));
		if (one.st_dev == other.st_dev && one.st_ino == other.st_ino)
			return true;
	}
	return false;
}

static const char *add(struct depot *depot, struct depot_notice *notice)
{
	char name[NAME_MAX_BYTES + 1];
	const char *complaint = name_of(notice->text, name);

	while (notice->n_fds > 0 && !complaint) {
		int fd = notice->fds[0];

		if (has(depot, name, fd)) {
			(void)close(fd);
		} else if (depot->n < depot->max) {
			struct stored *place = &depot->stored[depot->n++];

			place->fd = fd;
			memcpy(place->name, name, sizeof(name));
			depot->total++;
		} else {
			complaint = "the store is full";
			break;
		}
		memmove(&notice->fds[0], &notice->fds[1], --notice->n_fds * sizeof(int));
	}
	return complaint;
}

static const char *drop(struct depot *depot, const struct depot_notice *notice)
{
	char name[NAME_MAX_BYTES + 1];
	const char *complaint = name_of(notice->text, name);
	unsigned left = 0;

	for (unsigned i = 0; i < depot->n && !complaint; i++) {
		if (strcmp(depot->stored[i].name, name) == 0)
			(void)close(depot->stored[i].fd);
		else
			depot->stored[left++] = depot->stored[i];
	}
	if (!complaint)
		depot->n = left;
	return complaint;
}

const char *depot_take(struct depot *depot, struct depot_notice *notice)
{
	const char *complaint = NULL;

	if (!depot && strstr(notice->text, "FDSTORE"))
		complaint = "nobody offered a store";
	else if (strstr(notice->text, "FDSTOREREMOVE=1\n"))
		complaint = drop(depot, notice);
	else if (strstr(notice->text, "FDSTORE=1\n"))
		complaint = notice->n_fds ? add(depot, notice) : "descriptors are missing";
	while (notice->n_fds > 0)
		(void)close(notice->fds[--notice->n_fds]);
	return complaint;
}

unsigned depot_count(const struct depot *depot)
{
	return depot->n;
}

unsigned long long depot_total(const struct depot *depot)
{
	return depot->total;
}

int depot_fd(const struct depot *depot, unsigned i)
{
	return depot->stored[i].fd;
}

const char *depot_name(const struct depot *depot, unsigned i)
{
	return depot->stored[i].name;
}
