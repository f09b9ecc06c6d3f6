/* SPDX-License-Identifier: MIT */
/*
 * sd_notify(3): readiness, figures, the watchdog. Must not know what is done about them.
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
		   " connections, %" PRIu64 " sessions away, %" PRIu32 " of %" PRIu32
		   " descriptors stored",
		   state, broker->regions.counts[OBJECT_REGION], total[CHARGE_BYTES] >> 20,
		   total[CHARGE_CONNECTIONS], total[CHARGE_AWAY], broker->store.n_fds,
		   broker->store.max);
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

static void on_watchdog(uv_timer_t *timer)
{
	sd_notify(0, "WATCHDOG=1");
}

/* In whole milliseconds and at least one: who asks for less is told too rarely, and stops us. */
void notify_watchdog_start(uv_loop_t *loop, uv_timer_t *timer)
{
	uint64_t bound_us;
	uint64_t period_ms;

	uv_timer_init(loop, timer);
	if (sd_watchdog_enabled(0, &bound_us) <= 0)
		return;
	period_ms = bound_us / 3000;
	if (period_ms == 0)
		period_ms = 1;
	uv_timer_start(timer, on_watchdog, period_ms, period_ms);
}
