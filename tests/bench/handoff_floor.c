/* SPDX-License-Identifier: MIT */
/*
 * The floors of a hand-over: a bare spin on one cache line, a bare futex, a copy through a Unix
 * stream socket. Knows nothing of shmbroker but its error numbers. A partner that is gone ends
 * these loops from outside: the follower dies with its parent, the leader by the runner's deadline.
 */

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shmbroker/errors.h>

#include "bench.h"
#include "handoff.h"
#include "handoff_ways.h"
#include "work.h"

/* ---- One word, spun on or slept on ---- */

static void await_spinning(struct handoff_word *word, uint32_t turn)
{
	while (atomic_load_explicit(&word->turn, memory_order_acquire) != turn)
		bench_relax();
}

static void await_sleeping(struct handoff_word *word, uint32_t turn)
{
	uint32_t now;

	while ((now = atomic_load_explicit(&word->turn, memory_order_acquire)) != turn)
		(void)syscall(SYS_futex, &word->turn, FUTEX_WAIT, now, NULL, NULL, 0);
}

/* An exchange, not a store: it empties the store buffer, and the other side sees it earlier. */
static void set_turn(struct handoff_word *word, uint32_t turn)
{
	(void)atomic_exchange(&word->turn, turn);
}

static void set_turn_and_wake(struct handoff_word *word, uint32_t turn)
{
	atomic_store_explicit(&word->turn, turn, memory_order_release);
	(void)syscall(SYS_futex, &word->turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* As macros' bodies would be, but checked: inlined with constant functions in each role below. */
static inline int lead_word(const struct handoff *handoff, uint64_t rounds, uint64_t base,
			    void (*await)(struct handoff_word *, uint32_t),
			    void (*set)(struct handoff_word *, uint32_t))
{
	for (uint64_t turn = base; rounds > 0; rounds--) {
		work_fill(handoff->buffer, handoff->length, ++turn);
		set(handoff->word, (uint32_t)turn);
		await(handoff->word, (uint32_t)++turn);
		if (work_check(handoff->buffer, handoff->length, turn) < 0)
			return SHMB_EIO;
	}
	return 0;
}

static inline int follow_word(const struct handoff *handoff, uint64_t rounds, uint64_t base,
			      void (*await)(struct handoff_word *, uint32_t),
			      void (*set)(struct handoff_word *, uint32_t))
{
	for (uint64_t turn = base; rounds > 0; rounds--) {
		await(handoff->word, (uint32_t)++turn);
		if (work_check(handoff->buffer, handoff->length, turn) < 0)
			return SHMB_EIO;
		work_fill(handoff->buffer, handoff->length, ++turn);
		set(handoff->word, (uint32_t)turn);
	}
	return 0;
}

static int lead_spin(const struct handoff *handoff, uint64_t rounds, uint64_t base)
{
	return lead_word(handoff, rounds, base, await_spinning, set_turn);
}

static int follow_spin(const struct handoff *handoff, uint64_t rounds, uint64_t base)
{
	return follow_word(handoff, rounds, base, await_spinning, set_turn);
}

static int lead_futex(const struct handoff *handoff, uint64_t rounds, uint64_t base)
{
	return lead_word(handoff, rounds, base, await_sleeping, set_turn_and_wake);
}

static int follow_futex(const struct handoff *handoff, uint64_t rounds, uint64_t base)
{
	return follow_word(handoff, rounds, base, await_sleeping, set_turn_and_wake);
}

/* ---- A copy through a socket ---- */

static int send_all(int socket, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = send(socket, data, length, MSG_NOSIGNAL);

		if (n < 0)
			return -errno;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

static int receive_all(int socket, char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = recv(socket, data, length, 0);

		if (n <= 0)
			return n < 0 ? -errno : SHMB_EDISCONNECTED;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

static int pass_socket(const struct handoff *handoff, uint64_t seed)
{
	work_fill(handoff->private, handoff->length, seed);
	return send_all(handoff->socket, handoff->private, handoff->length);
}

static int take_socket(const struct handoff *handoff, uint64_t seed)
{
	int r = receive_all(handoff->socket, handoff->private, handoff->length);

	return r < 0 ? r : work_check(handoff->private, handoff->length, seed);
}

static int lead_socket(const struct handoff *handoff, uint64_t rounds, uint64_t base)
{
	for (uint64_t seed = base; rounds > 0; rounds--) {
		int r = pass_socket(handoff, ++seed);

		if (r == 0)
			r = take_socket(handoff, ++seed);
		if (r < 0)
			return r;
	}
	return 0;
}

static int follow_socket(const struct handoff *handoff, uint64_t rounds, uint64_t base)
{
	for (uint64_t seed = base; rounds > 0; rounds--) {
		int r = take_socket(handoff, ++seed);

		if (r == 0)
			r = pass_socket(handoff, ++seed);
		if (r < 0)
			return r;
	}
	return 0;
}

const struct handoff_roles handoff_ways[HANDOFF_WAYS] = {
	[HANDOFF_OURS] = { handoff_ours_lead, handoff_ours_follow },
	[HANDOFF_SPIN] = { lead_spin, follow_spin },
	[HANDOFF_FUTEX] = { lead_futex, follow_futex },
	[HANDOFF_SOCKET] = { lead_socket, follow_socket },
};
