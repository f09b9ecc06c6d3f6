/* SPDX-License-Identifier: MIT */
/*
 * The processes that the driver starts. Three of them take an order, carry it out, report, and end
 * when the driver is gone. Started as
 *
 *   demo role publisher FILE SIZE
 *   demo role receiver NUMBER ACCESS SIZE
 *   demo role holder|heir
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "demo.h"

double demo_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The next order. Return: false if there is none any more. */
static bool next_order(struct demo_order *ret_order)
{
	return recv(DEMO_ORDERS_FD, ret_order, sizeof(*ret_order), 0) ==
		       (ssize_t)sizeof(*ret_order) &&
	       ret_order->task != DEMO_QUIT;
}

static int tell(const struct demo_report *report)
{
	return send(DEMO_ORDERS_FD, report, sizeof(*report), MSG_NOSIGNAL) < 0 ? SHMB_EDISCONNECTED
									       : 0;
}

static int publisher_main(const char *path, const char *size)
{
	struct publisher publisher = { .size = strtoull(size, NULL, 10) };
	struct demo_order order;
	int connected;

	publisher.file = open(path, O_RDONLY | O_CLOEXEC);
	connected = shmb_client_connect(NULL, NULL, &publisher.client);
	while (next_order(&order)) {
		struct demo_report report = { .status = connected };

		if (connected == 0)
			report.status = publisher_do(&publisher, &order, &report);
		if (tell(&report) < 0)
			break;
	}
	for (int i = 0; i < DEMO_RECEIVERS; i++) {
		shmb_semaphore_free(publisher.free[i]);
		shmb_semaphore_free(publisher.full[i]);
	}
	shmb_region_free(publisher.frames);
	shmb_client_free(publisher.client);
	free(publisher.buffer);
	if (publisher.file >= 0)
		(void)close(publisher.file);
	return EXIT_SUCCESS;
}

static int receiver_main(const char *number, const char *access, const char *size)
{
	struct receiver receiver = { .number = (int)strtol(number, NULL, 10),
				     .access = (unsigned)strtoul(access, NULL, 10),
				     .size = strtoull(size, NULL, 10) };
	struct demo_order order;
	int connected = shmb_client_connect(NULL, NULL, &receiver.client);

	while (next_order(&order)) {
		struct demo_report report = { .status = connected };

		if (connected == 0)
			report.status = receiver_do(&receiver, &order, &report);
		if (tell(&report) < 0)
			break;
	}
	shmb_semaphore_free(receiver.free);
	shmb_semaphore_free(receiver.full);
	shmb_region_free(receiver.frames);
	shmb_client_free(receiver.client);
	free(receiver.buffer);
	return EXIT_SUCCESS;
}

int role_main(int argc, char **argv)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_NAME, argc > 2 ? argv[2] : "demo"); /* ps would say "exe" */
	if (argc == 5 && strcmp(argv[2], "publisher") == 0)
		return publisher_main(argv[3], argv[4]);
	if (argc == 6 && strcmp(argv[2], "receiver") == 0)
		return receiver_main(argv[3], argv[4], argv[5]);
	if (argc == 3)
		return accident_role(argv[2]);
	fprintf(stderr, "demo: \"role\" is for the demo itself\n");
	return 2;
}
