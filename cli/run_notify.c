/* SPDX-License-Identifier: MIT */
/*
 * The keeper's end of sd_notify(3): what the broker says of itself, and the descriptors that it
 * gives away. Anybody of the same user can send here; only the broker is listened to.
 */

#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	TEXT_MAX = 4096,
	FDS_MAX = 2, /* in one message */
	/* At a time: more than a queue holds, so that all that a dead broker has said is taken, and
	 * not without end, whoever keeps sending. */
	MESSAGES_MAX = 10000,
};

struct message {
	char text[TEXT_MAX];
	int fds[FDS_MAX];
	size_t n_fds;
};

/* What a message asks for. The name lies in its text. */
struct request {
	bool ready, add, remove;
	const char *name;
};

/* ---- Receiving ---- */

/* Who sent the next one, without taking descriptors: there is room for nothing but that. Return: 1,
 * or 0: there is none. */
static int peek_sender(int notifier, pid_t *ret_sender)
{
	union {
		char buffer[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct msghdr header = { .msg_control = control.buffer,
				 .msg_controllen = sizeof(control.buffer) };
	const struct cmsghdr *part;
	struct ucred sender = { .pid = 0 };

	if (recvmsg(notifier, &header, MSG_PEEK | MSG_DONTWAIT) < 0)
		return 0;
	part = CMSG_FIRSTHDR(&header);
	if (part != NULL && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS)
		memcpy(&sender, CMSG_DATA(part), sizeof(sender));
	*ret_sender = sender.pid;
	return 1;
}

static void close_fds(struct message *message)
{
	while (message->n_fds > 0)
		close(message->fds[--message->n_fds]);
}

static void take_fds(struct message *message, struct msghdr *header)
{
	message->n_fds = 0;
	for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
	     part = CMSG_NXTHDR(header, part)) {
		size_t size = part->cmsg_len - CMSG_LEN(0);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(message->fds, CMSG_DATA(part),
		       size); /* the sender had its room, see peek_sender() */
		message->n_fds = size / sizeof(int);
	}
}

/* Return: whether there was one, complete. An incomplete one is nothing that a broker sends. */
static bool receive(int notifier, struct message *message)
{
	union {
		char buffer[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int[FDS_MAX]))];
		struct cmsghdr align;
	} control;
	struct iovec data = { message->text, sizeof(message->text) - 1 };
	struct msghdr header = { .msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = control.buffer,
				 .msg_controllen = sizeof(control.buffer) };
	ssize_t n = recvmsg(notifier, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return false;
	message->text[n] = '\0';
	take_fds(message, &header);
	if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		return true;
	close_fds(message);
	return false;
}

/* ---- Doing what it says ---- */

static struct request parse(char *text)
{
	struct request request = { .name = "" };
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (strcmp(line, "READY=1") == 0)
			request.ready = true;
		else if (strcmp(line, "FDSTORE=1") == 0)
			request.add = true;
		else if (strcmp(line, "FDSTOREREMOVE=1") == 0)
			request.remove = true;
		else if (strncmp(line, "FDNAME=", 7) == 0)
			request.name = line + 7;
	}
	return request;
}

/* Return: whether it is ready. */
static bool obey(struct message *message, struct run_store *store)
{
	struct request request = parse(message->text);

	if (request.remove) {
		run_store_remove(store, request.name);
	} else if (request.add) {
		for (size_t i = 0; i < message->n_fds; i++)
			run_store_add(store, request.name, message->fds[i]);
		message->n_fds = 0;
	}
	/* BARRIER=1 waits for just this: everything before it has been done */
	close_fds(message);
	return request.ready;
}

bool run_notify_serve(int notifier, pid_t broker, struct run_store *store)
{
	struct message message;
	bool ready = false;
	pid_t sender;

	for (int i = 0; i < MESSAGES_MAX && peek_sender(notifier, &sender) > 0; i++) {
		if (broker <= 0 || sender != broker)
			/* without room, so that its descriptors do not even come to us */
			(void)recv(notifier, NULL, 0, MSG_DONTWAIT);
		else if (receive(notifier, &message))
			ready = obey(&message, store) || ready;
	}
	return ready;
}
