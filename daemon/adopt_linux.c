/* SPDX-License-Identifier: MIT */
/*
 * The process that looks at descriptors first: fork, receive one packet, examine, pass on or
 * refuse, exit. What it refuses it closes, and if that hangs, it hangs alone.
 */
#include "adopt.h"

#include "account.h"
#include "broker.h"
#include "dispatch.h"
#include "log.h"
#include "overlay.h"
#include "peer.h"
#include "session.h"
#include "wire/packet.h"

#include <shmbroker/errors.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { ADOPTIONS_PER_USER = 8 };

/* Not all of them are in linux/magic.h of every age. */
#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef ZFS_SUPER_MAGIC
#define ZFS_SUPER_MAGIC 0x2fc12fc1
#endif
#ifndef BCACHEFS_SUPER_MAGIC
#define BCACHEFS_SUPER_MAGIC 0xca451a4e
#endif
#ifndef EXFAT_SUPER_MAGIC
#define EXFAT_SUPER_MAGIC 0x2011BAB0
#endif

/* What the process says, before the packet's own bytes. */
struct verdict {
	int code;      /* 0, SHMB_E..., or, of what is no packet, a negative errno */
	bool received; /* there was a packet */
	bool end;      /* of the connection */
	char what[30];
};

struct message {
	struct verdict verdict;
	uint8_t data[WIRE_PACKET_MAX + 1];
};

struct adoption {
	uv_poll_t watch;
	struct peer *peer;
	int socket;
	struct message message;
};

bool adopt_allowed(const struct broker *broker, uid_t uid)
{
	return uid == 0 || uid == geteuid() || settings_allows_adopt(&broker->settings, uid);
}

bool adopt_has_room(const struct peer *peer)
{
	return account_used(peer->account, CHARGE_ADOPTIONS) < ADOPTIONS_PER_USER;
}

int adopt_begin(struct peer *peer)
{
	int result = packet_accept_fds(peer->socket);

	if (result < 0 && result != SHMB_ENOTSUP)
		return result;
	peer->may_pass = true;
	peer->trusted = false; /* each packet is looked at first from now on */
	return 0;
}

bool adopt_is_same(int fd, int other)
{
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, fd, other) == 0;
}

/* ---- In the process: async-signal-safe calls only ---- */

/* Of file systems whose files are asked of nobody but the kernel and its disks. */
static bool is_local(int fd)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(fd, &fs) < 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
	case HUGETLBFS_MAGIC:
	case EXT4_SUPER_MAGIC: /* and ext2, ext3 */
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case ZFS_SUPER_MAGIC:
	case BCACHEFS_SUPER_MAGIC:
	case MSDOS_SUPER_MAGIC:
	case EXFAT_SUPER_MAGIC:
		return true;
	case OVERLAYFS_SUPER_MAGIC: /* may be over anything */
		return fstat(fd, &st) == 0 && overlay_is_mounted(st.st_dev);
	default:
		return false;
	}
}

static int refuse(struct verdict *verdict, int code, const char *what)
{
	verdict->code = code;
	strncpy(verdict->what, what, sizeof(verdict->what) - 1);
	return code;
}

static int examine(const struct packet *packet, struct verdict *verdict)
{
	struct stat first = { 0 }, st;

	if (packet->n_fds != 2 || packet->fds_lost)
		return refuse(verdict, SHMB_EPROTO, "fds");
	for (unsigned i = 0; i < packet->n_fds; i++) {
		int flags = fcntl(packet->fds[i], F_GETFL);
		bool readable = flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_WRONLY;

		if (!readable || (i == 1 && (flags & O_ACCMODE) != O_RDONLY))
			return refuse(verdict, SHMB_EMODE, "fds");
		if (fstat(packet->fds[i], &st) < 0 || !S_ISREG(st.st_mode))
			return refuse(verdict, SHMB_ENOTSUP, "no regular file");
		if (!is_local(packet->fds[i]))
			return refuse(verdict, SHMB_ENOTSUP, "file system");
		if (i == 0)
			first = st;
	}
	if (first.st_dev != st.st_dev || first.st_ino != st.st_ino)
		return refuse(verdict, SHMB_EINVAL, "fds");
	return 0;
}

/*
 * Whoever closes a file last may have much to do (free what was deleted, write what is dirty). That
 * is to be us, and not the daemon, if it does not keep what it gets.
 */
static void await_hangup(int socket)
{
	struct pollfd poll_for = { .fd = socket };

	while (poll(&poll_for, 1, -1) < 0 && errno == EINTR)
		;
}

static void pass_on(int socket, const struct message *message, size_t length,
		    const struct packet *packet)
{
	bool good = message->verdict.received && message->verdict.code == 0;
	int result = packet_send(socket, message, sizeof(message->verdict) + length,
				 good ? packet->fds : NULL, good ? packet->n_fds : 0);

	if (result == 0 && good)
		await_hangup(socket);
}

static _Noreturn void receive_and_exit(pid_t parent, int from, int to, struct message *message)
{
	int low = from < to ? from : to, high = from < to ? to : from;
	struct verdict *verdict = &message->verdict;
	struct packet packet = { 0 };
	int result;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before that */
		_exit(0);
	if (low > 0)
		close_range(0, (unsigned)low - 1, 0);
	if (high > low + 1)
		close_range((unsigned)low + 1, (unsigned)high - 1, 0);
	close_range((unsigned)high + 1, UINT_MAX, 0);
	result = packet_receive(from, message->data, sizeof(message->data), &packet);
	verdict->received = result == 1;
	verdict->end = result == 0;
	if (result < 0)
		verdict->code = result;
	else if (result == 1)
		examine(&packet, verdict);
	pass_on(to, message, result == 1 ? packet.length : 0, &packet);
	_exit(0); /* closes what was refused */
}

/* ---- In the daemon ---- */

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void adoption_free(struct adoption *adoption)
{
	uv_close((uv_handle_t *)&adoption->watch, on_closed);
	close(adoption->socket);
}

/* What has come is closed while the process still has it, too. */
void adopt_abandon(struct adoption *adoption)
{
	struct packet packet;

	if (!adoption)
		return;
	shutdown(adoption->socket, SHUT_RD);
	if (packet_receive(adoption->socket, &adoption->message, sizeof(adoption->message),
			   &packet) == 1)
		packet_close_fds(&packet);
	adoption_free(adoption);
}

static void take(struct peer *peer, struct message *message, struct packet *packet)
{
	const struct verdict *verdict = &message->verdict;
	struct failure failure = { .code = verdict->code, .what = verdict->what };

	message->verdict.what[sizeof(verdict->what) - 1] = '\0';
	packet->length -= sizeof(*verdict);
	if (verdict->received)
		dispatch_packet(peer, message->data, packet, verdict->code ? &failure : NULL);
	else if (!verdict->end && verdict->code != -EAGAIN && verdict->code != -ECONNRESET)
		peer_drop(peer, SHMB_EPROTO, "a packet cannot be received");
	/* Else whoever reads next sees what there is. */
}

static void on_verdict(uv_poll_t *watch, int status, int events)
{
	struct adoption *adoption = watch->data;
	struct message *message = &adoption->message;
	struct peer *peer = adoption->peer;
	struct packet packet;
	int result = packet_receive(adoption->socket, message, sizeof(*message), &packet);

	if (result == -EAGAIN || result == -EINTR)
		return;
	uv_poll_stop(watch);
	if (result == 1 && packet.length >= sizeof(message->verdict)) {
		if (!peer->condemned)
			take(peer, message, &packet);
		packet_close_fds(&packet);
	} else {
		peer_drop(peer, SHMB_EIO, "descriptors could not be examined");
	}
	peer_adopted(peer);
	adoption_free(adoption);
}

/* Return: the process, which the discarding part looks after from now on, or a negative errno. */
static int fork_receiver(struct peer *peer, int to, struct message *message)
{
	struct broker *broker = peer->broker;
	pid_t parent = getpid(), pid = fork();

	if (pid == 0)
		receive_and_exit(parent, peer->socket, to, message);
	if (pid < 0)
		return -errno;
	account_charge(peer->account, CHARGE_ADOPTIONS, 1, UINT64_MAX);
	discard_watch(&broker->discard, pid,
		      account_get(&broker->accounts, account_uid(peer->account)), CHARGE_ADOPTIONS);
	return 0;
}

static int start(struct peer *peer, struct adoption *adoption, const int sockets[2])
{
	int result = uv_poll_init(&peer->broker->loop, &adoption->watch, sockets[0]);

	if (result < 0)
		return result;
	adoption->watch.data = adoption;
	adoption->peer = peer;
	adoption->socket = sockets[0];
	result = fork_receiver(peer, sockets[1], &adoption->message);
	if (result < 0) {
		uv_close((uv_handle_t *)&adoption->watch, on_closed);
		return result;
	}
	uv_poll_start(&adoption->watch, UV_READABLE, on_verdict);
	peer->adoption = adoption;
	return 0;
}

int adopt_receive(struct peer *peer)
{
	struct adoption *adoption;
	int sockets[2];
	int result;

	if (!adopt_has_room(peer))
		return -EAGAIN;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0)
		return -errno;
	adoption = calloc(1, sizeof(*adoption));
	result = adoption ? start(peer, adoption, sockets) : -ENOMEM;
	close(sockets[1]);
	if (result == 0)
		return 0;
	close(sockets[0]);
	if (adoption && !adoption->watch.data)
		free(adoption);
	return result;
}
