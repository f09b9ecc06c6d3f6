/* SPDX-License-Identifier: MIT */
/*
 * sd_notify(3).
 */
#include "notify.h"

#include "account.h"
#include "broker.h"

#include <inttypes.h>
#include <systemd/sd-daemon.h>
#include <time.h>

static void send_with_status(struct broker *broker, const char *state)
{
	const uint64_t *total = broker->accounts.total;

	sd_notifyf(0,
		   "%sSTATUS=%" PRIu64 " regions (%" PRIu64 " MiB), %" PRIu64
		   " connections, %" PRIu64 " attachments",
		   state, broker->regions.counts[OBJECT_REGION], total[CHARGE_BYTES] >> 20,
		   total[CHARGE_CONNECTIONS], broker->regions.n_attachments);
}

void notify_ready(struct broker *broker)
{
	send_with_status(broker, "READY=1\n");
}

void notify_status(struct broker *broker)
{
	send_with_status(broker, "");
}

void notify_reloading(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		   (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

void notify_stopping(void)
{
	sd_notify(0, "STOPPING=1");
}
