/* SPDX-License-Identifier: MIT */
/*
 * How long the daemon keeps a bystander waiting, told from its processor time, so that it does not
 * matter how busy the machine is with something else. What does matter is how soon the bystander
 * runs when its answer is there, as the daemon works on meanwhile: it asks to be served first.
 */
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "harness.h"

/* Shared by the test and the bystander. */
struct pulse_words {
	_Atomic bool stop;
	bool first; /* it is served first */
	int64_t worst_us;
};

static void feel_the_pulse(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct pulse_words *words = argument;
	int64_t start, used;

	words->first = sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ 1 }) == 0;
	say(1);
	while (!atomic_load(&words->stop)) {
		start = broker_cpu_us(broker);
		CHECK_OK(shmb_client_ping(client));
		used = broker_cpu_us(broker) - start;
		if (used > words->worst_us)
			words->worst_us = used;
	}
	shmb_client_free(client);
}

void pulse_begin(struct broker *broker, struct pulse *pulse)
{
	pulse->words = mmap(NULL, sizeof(*pulse->words), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(pulse->words != MAP_FAILED);
	pulse->bystander = actor_start(broker, &SELF, feel_the_pulse, pulse->words);
	actor_hear(&pulse->bystander);
}

int64_t pulse_end(struct pulse *pulse)
{
	int64_t worst_us;

	atomic_store(&pulse->words->stop, true);
	actor_end(&pulse->bystander);
	worst_us = pulse->words->first ? pulse->words->worst_us : 0;
	munmap(pulse->words, sizeof(*pulse->words));
	return worst_us;
}
