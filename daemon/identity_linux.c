/* SPDX-License-Identifier: MIT */
/*
 * SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD. Nothing here is told by the client itself.
 */
#include "identity.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; the same on every architecture that uses asm-generic */
#endif

static int read_groups(int socket, struct identity *identity)
{
	socklen_t size = 0;

	/* With no room the kernel says how much it needs; groups are fixed at connect, so this does
	 * not race. */
	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || size == 0)
		return 0;
	if (errno != ERANGE)
		return errno == ENOPROTOOPT || errno == ENODATA ? 0 : -errno;
	identity->groups = malloc(size);
	if (!identity->groups)
		return -ENOMEM;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, identity->groups, &size) < 0)
		return -errno;
	identity->n_groups = size / sizeof(gid_t);
	return 0;
}

/*
 * SO_PEERPIDFD names the very process that connected. The fallback goes by number, which could in
 * theory have been given to another process since; the connection would then have hung up, or be
 * held by a child alone.
 */
static int read_pidfd(int socket, struct identity *identity)
{
	socklen_t size = sizeof(identity->pidfd);

	if (identity->pid == 0)
		return 0;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &identity->pidfd, &size) == 0)
		return 0;
	identity->pidfd = -1;
	if (errno == ENOPROTOOPT) {
		identity->pidfd = pidfd_open(identity->pid, 0);
		if (identity->pidfd >= 0)
			return 0;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
		return -errno;
	return 0; /* it has died already, or there are no pidfds: the hang-up will tell */
}

int identity_read(int socket, struct identity *ret_identity)
{
	struct identity identity = { .pidfd = -1 };
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	int result;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return -errno;
	identity.uid = credentials.uid;
	identity.gid = credentials.gid;
	identity.pid = credentials.pid;
	result = read_groups(socket, &identity);
	if (result == 0)
		result = read_pidfd(socket, &identity);
	if (result < 0) {
		identity_deinit(&identity);
		return result;
	}
	*ret_identity = identity;
	return 0;
}

void identity_deinit(struct identity *identity)
{
	free(identity->groups);
	identity->groups = NULL;
	identity->n_groups = 0;
	if (identity->pidfd >= 0)
		close(identity->pidfd);
	identity->pidfd = -1;
}

bool identity_in_group(const struct identity *identity, gid_t gid)
{
	if (identity->gid == gid)
		return true;
	for (size_t i = 0; i < identity->n_groups; i++)
		if (identity->groups[i] == gid)
			return true;
	return false;
}
