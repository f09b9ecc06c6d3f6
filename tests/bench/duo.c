/* SPDX-License-Identifier: MIT */
/* A second process that follows orders. Knows nothing of what they are for. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <shmbroker/errors.h>

#include "bench.h"
#include "duo.h"

static int answer(int orders, int r)
{
	return send(orders, &r, sizeof(r), MSG_NOSIGNAL) < 0 ? -errno : r;
}

static void follow(int orders, const struct duo_part *part, void *context)
{
	struct duo_order order;

	if (answer(orders, part->attach(context)) < 0)
		_exit(1);
	while (recv(orders, &order, sizeof(order), 0) == (ssize_t)sizeof(order))
		if (answer(orders, part->follow(context, &order)) < 0)
			_exit(1);
	_exit(0);
}

int duo_start(struct duo *duo, const struct duo_part *part, void *context)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid = bench_fork();
	if (pid == 0) {
		(void)close(ends[0]);
		follow(ends[1], part, context);
	}
	(void)close(ends[1]);
	if (pid < 0) {
		(void)close(ends[0]);
		return (int)pid;
	}
	*duo = (struct duo){ pid, ends[0] };
	return duo_answer(duo);
}

int duo_tell(const struct duo *duo, uint32_t way, uint64_t count)
{
	const struct duo_order order = { way, count };

	return send(duo->orders, &order, sizeof(order), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int duo_answer(const struct duo *duo)
{
	int r;

	if (recv(duo->orders, &r, sizeof(r), 0) != (ssize_t)sizeof(r))
		return SHMB_EDISCONNECTED;
	return r;
}

void duo_end(struct duo *duo)
{
	if (duo->pid < 1)
		return;
	bench_end(duo->pid);
	(void)close(duo->orders);
	*duo = (struct duo){ 0 };
}
