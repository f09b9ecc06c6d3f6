/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CRASH_DAEMON_PLAY_H
#define TESTS_CRASH_DAEMON_PLAY_H

/*
 * A daemon that is killed at each of its steps in turn, while a client of the real library goes
 * through a scenario and must not notice; when it has given everything back, nothing may be left.
 *
 * The client's process says when; the test itself only starts the next daemon when one has died.
 */

#include <sys/types.h>

#include "crash_page.h"
#include "harness.h"

enum { PAGE = 4096, LONG_MS = 20000 };

/* What a scenario has; some of it made before the steps begin. */
struct part {
	struct shmb_client *client;
	struct crash_page *page;
	enum shmb_backing backing;
	struct shmb_region *region;
	struct shmb_semaphore *semaphore;
	pid_t victim;
};

struct scenario {
	const char *name;
	void (*prepare)(struct broker *broker, struct part *part); /* without steps; may be NULL */
	void (*run)(struct broker *broker, struct part *part);
	unsigned least; /* steps */
};

/* play_fill(), play_check() - what is in a region */
void play_fill(struct shmb_region *region, uint64_t size, unsigned seed);
void play_check(struct shmb_region *region, uint64_t size, unsigned seed);

struct shmb_region *play_make(struct part *part, const char *name, uint64_t size, uint64_t capacity,
			      enum shmb_lifetime lifetime);

/*
 * play_scenarios() - each of them, at each step
 * @then: 0; or the next daemon dies, too, within so many of its steps
 */
void play_scenarios(struct broker *broker, const struct scenario *scenarios, size_t n,
		    enum shmb_backing backing, unsigned then);

/* play_pairs() - at each step, and each of its successor's that comes before the client is content
 */
void play_pairs(struct broker *broker, const struct scenario *scenario, enum shmb_backing backing);

#define PLAY(scenarios, backing, then) \
	play_scenarios(broker, scenarios, sizeof(scenarios) / sizeof((scenarios)[0]), backing, then)

#define STEPS .bare = true, .no_probe = true, .timeout_s = 110

#endif
