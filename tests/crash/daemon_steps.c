/* SPDX-License-Identifier: MIT */
/* The daemon's layout_step(): kills it at the step that the test has chosen, see crash_page.h. */

#include "crash_page.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layout/step.h"

static struct crash_page *page;

__attribute__((constructor)) static void map_page(void)
{
	const char *path = getenv(CRASH_PAGE_ENVIRONMENT);
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *data;

	if (fd < 0)
		return;
	data = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (data != MAP_FAILED)
		page = data;
}

void layout_step(void)
{
	if (!page || !atomic_load(&page->armed) ||
	    atomic_fetch_add(&page->done, 1) + 1 != atomic_load(&page->chosen))
		return;
	atomic_store(&page->chosen, atomic_exchange(&page->then, 0));
	atomic_store(&page->done, 0);
	atomic_fetch_add(&page->deaths, 1);
	kill(getpid(), SIGKILL);
}
