/* SPDX-License-Identifier: MIT */
/*
 * The generation of this process. The word lies in a page with MADV_WIPEONFORK, which also notices
 * a clone() behind libc's back; where the kernel refuses that, a pthread_atfork() handler zeroes an
 * ordinary word. Nothing here takes a lock, which a child could inherit held.
 */

#include "fork.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shmbroker/errors.h>

static _Atomic uint32_t plain_word;
/* Survives the fork, so that the child's generation differs from all of its ancestors'. */
static _Atomic uint32_t last_generation;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int setup_result;
static bool fallback_forced;

_Atomic uint32_t *fork_word = &plain_word;

static void forget_in_child(void)
{
	atomic_store(&plain_word, 0);
}

static void *map_wiped_page(void)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page;

	if (fallback_forced)
		return NULL;
	page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return NULL;
	if (madvise(page, size, MADV_WIPEONFORK) == 0)
		return page;
	munmap(page, size);
	return NULL;
}

static void setup(void)
{
	void *page = map_wiped_page();

	if (page)
		fork_word = page;
	else if (pthread_atfork(NULL, NULL, forget_in_child) != 0)
		setup_result = SHMB_ENOMEM;
}

int fork_generation(uint32_t *ret_generation)
{
	uint32_t current;

	pthread_once(&once, setup);
	if (setup_result < 0)
		return setup_result;
	current = atomic_load(fork_word);
	while (current == 0) {
		uint32_t mine = atomic_fetch_add(&last_generation, 1) + 1;

		/* On failure @current is what another thread set. */
		if (atomic_compare_exchange_strong(fork_word, &current, mine))
			current = mine;
	}
	*ret_generation = current;
	return 0;
}

void fork_force_fallback(void)
{
	fallback_forced = true;
}
