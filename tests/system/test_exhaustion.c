/* SPDX-License-Identifier: MIT */
/*
 * Running out: of descriptors, memory, space. Each is answered with its own error, logged once, and
 * survived; the service goes on for everybody else and, afterwards, for the one it happened to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"

static struct shmb_region_options with_backing(enum shmb_backing backing)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;

	options.backing = backing;
	return options;
}

static void check_still_serving(struct broker *broker)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "after/all", 4096, NULL);

	CHECK_OK(shmb_region_write_u32(region, 0, 1));
	CHECK_OK(shmb_region_resize(region, 100));
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(broker_stat(broker, "bytes"), 0);
}

/* ---- Descriptors ---- */

CASE(emfile_on_accept_is_told_to_the_client, PRIVATE, .nofile = 48)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *clients[64], *none = NULL;
	unsigned n = 0;
	int r = 0;

	options.timeout_ms = 5000;
	while (n < 64) {
		r = shmb_client_connect(broker->socket, &options, &clients[n]);
		if (r)
			break;
		n++;
	}
	CHECK_CODE(r, SHMB_EMFILE);
	CHECK(n > 10);
	CHECK_CODE(shmb_client_connect(broker->socket, &options, &none), SHMB_EMFILE);
	CHECK_CODE(shmb_client_connect(broker->socket, &options, &none), SHMB_EMFILE);
	CHECK_OK(shmb_client_ping(clients[0]));
	CHECK_INT(broker_log_count(broker, "out of descriptors: "), 1);
	while (n > 0)
		shmb_client_free(clients[--n]);
	UNTIL(broker, broker_stat(broker, "connections") == 1);
	check_still_serving(broker);
}

CASE(emfile_while_creating_is_told_to_the_client, PRIVATE, .nofile = 48)
{
	struct shmb_region_options options = with_backing(SHMB_BACKING_MEMFD);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *regions[64];
	unsigned n = 0;
	char name[16];
	int r = 0;

	while (n < 64) { /* the daemon holds two descriptors for each memfd region */
		snprintf(name, sizeof(name), "n/%u", n);
		r = shmb_region_create(client, name, 4096, &options, &regions[n]);
		if (r)
			break;
		n++;
	}
	CHECK_CODE(r, SHMB_EMFILE);
	CHECK(n > 5);
	CHECK_INT(broker_stat(broker, "regions"), n);
	CHECK_INT(broker_stat(broker, "attachments"), n);
	shmb_region_free(regions[--n]);
	snprintf(name, sizeof(name), "n/%u", n);
	UNTIL(broker, broker_stat(broker, "regions") == n);
	regions[n] = create(client, name, 4096, &options);
	n++;
	while (n > 0)
		shmb_region_free(regions[--n]);
	shmb_client_free(client);
	check_still_serving(broker);
}

static void receive_without_room(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct rlimit limit = { 16, 16 };
	struct shmb_region *region = NULL;
	int fds[16], n = 0, i;

	SYS(setrlimit(RLIMIT_NOFILE, &limit));
	while ((fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	CHECK_CODE(shmb_region_create(client, "r", 4096, NULL, &region), SHMB_EMFILE);
	close(fds[--n]); /* room for one of the two */
	CHECK_CODE(shmb_region_create(client, "r", 4096, NULL, &region), SHMB_EMFILE);
	CHECK((fds[n++] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0); /* it was given back */
	close(fds[--n]);
	close(fds[--n]);
	region = create(client, "r", 4096, NULL);
	shmb_region_free(region);
	for (i = 0; i < n; i++)
		close(fds[i]);
	shmb_client_free(client);
}

CASE(emfile_in_the_client_is_an_error_of_that_call, PRIVATE)
{
	actor_run(broker, &SELF, receive_without_room, NULL);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(broker_stat(broker, "dropped_total"), 0);
}

/* ---- Space ---- */

CASE(enospc_on_reserve, PRIVATE, .shm_mount = "size=1m")
{
	struct shmb_region_options options = with_backing(SHMB_BACKING_SHM);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;

	options.flags = SHMB_RESERVE;
	CHECK_CODE(shmb_region_create(client, "big", 4 << 20, &options, &region), SHMB_ENOSPC);
	CHECK(!region);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	region = create(client, "small", 256 << 10, &options);
	memset(shmb_region_data(region), 1, 256 << 10);
	shmb_region_free(region);
	shmb_client_free(client);
	check_still_serving(broker);
}

CASE(enospc_without_inodes, PRIVATE, .shm_mount = "size=1m,nr_inodes=8")
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *regions[8], *none = NULL;
	unsigned n = 0;
	char name[16];
	int r = 0;

	while (n < 8) {
		snprintf(name, sizeof(name), "n/%u", n);
		r = shmb_region_create(client, name, 4096, NULL, &regions[n]);
		if (r)
			break;
		n++;
	}
	CHECK_CODE(r, SHMB_ENOSPC);
	CHECK_CODE(shmb_region_create(client, "again", 4096, NULL, &none), SHMB_ENOSPC);
	CHECK_INT(broker_stat(broker, "regions"), n);
	CHECK_INT(broker_log_count(broker, "out of space for regions: "), 1);
	while (n > 0)
		shmb_region_free(regions[--n]);
	shmb_client_free(client);
	check_still_serving(broker);
}

/* ---- Faults: each kind once, then for a while; the answer, the log, and life after ---- */

struct trouble {
	enum fault fault;
	int error; /* an errno of the daemon's system call */
	int code;  /* what the client is told */
	enum shmb_backing backing;
};

static void create_in_trouble(struct broker *broker, struct trouble trouble)
{
	struct shmb_region_options options = with_backing(trouble.backing);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;
	int i;

	for (i = 0; i < 2; i++) { /* the first of its calls fails, then the second */
		broker_fault(broker, trouble.fault, trouble.error, i, 1);
		CHECK_CODE(shmb_region_create(client, "r", 4096, &options, &region), trouble.code);
		CHECK_INT(broker_fault_hits(broker, trouble.fault), 1);
		CHECK_INT(broker_stat(broker, "regions"), 0);
		CHECK_INT(broker_stat(broker, "bytes"), 0);
		CHECK_INT(broker_shm_count(broker), 0);
	}
	broker_fault(broker, trouble.fault, 0, 0, 0);
	region = create(client, "r", 4096, &options);
	shmb_region_free(region);
	shmb_client_free(client);
	check_still_serving(broker);
}

CASE(memfd_create_fails_with_enomem, PRIVATE, .faults = true)
{
	create_in_trouble(broker,
			  (struct trouble){ FAULT_MEMFD, ENOMEM, SHMB_ENOMEM, SHMB_BACKING_MEMFD });
}

CASE(memfd_create_fails_with_enfile, PRIVATE, .faults = true)
{
	create_in_trouble(broker,
			  (struct trouble){ FAULT_MEMFD, ENFILE, SHMB_ENFILE, SHMB_BACKING_MEMFD });
}

CASE(shm_open_fails_with_enospc, PRIVATE, .faults = true)
{
	create_in_trouble(
		broker, (struct trouble){ FAULT_SHM_OPEN, ENOSPC, SHMB_ENOSPC, SHMB_BACKING_SHM });
}

CASE(shm_open_fails_with_emfile, PRIVATE, .faults = true)
{
	create_in_trouble(
		broker, (struct trouble){ FAULT_SHM_OPEN, EMFILE, SHMB_EMFILE, SHMB_BACKING_SHM });
}

CASE(ftruncate_fails_with_enospc, PRIVATE, .faults = true)
{
	create_in_trouble(
		broker, (struct trouble){ FAULT_FTRUNCATE, ENOSPC, SHMB_ENOSPC, SHMB_BACKING_SHM });
	create_in_trouble(broker, (struct trouble){ FAULT_FTRUNCATE, ENOSPC, SHMB_ENOSPC,
						    SHMB_BACKING_MEMFD });
}

CASE(a_kernel_without_mfd_noexec_seal, SYSTEM, .faults = true)
{
	struct shmb_client *client = connect_to(broker);

	broker_fault(broker, FAULT_MEMFD_NOEXEC, EINVAL, 0, FAULT_FOREVER);
	shmb_region_free(create(client, "r", 4096, NULL));
	CHECK_INT(broker_fault_hits(broker, FAULT_MEMFD_NOEXEC), 2);
	shmb_client_free(client);
}

/* An error while sending descriptors is the answer to that request, not the end of the peer. */
static void send_in_trouble(struct broker *broker, int error, int code)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;

	broker_fault(broker, FAULT_SEND_FDS, error, 0, 1);
	CHECK_CODE(shmb_region_create(client, "r", 4096, NULL, &region), code);
	CHECK_INT(broker_fault_hits(broker, FAULT_SEND_FDS), 1);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	CHECK_INT(broker_stat(broker, "fds_in_flight"), 0);
	shmb_region_free(create(client, "r", 4096, NULL));
	shmb_client_free(client);
	check_still_serving(broker);
}

CASE(etoomanyrefs_while_sending, PRIVATE, .faults = true)
{
	send_in_trouble(broker, ETOOMANYREFS, SHMB_ETOOMANYREFS);
}

CASE(enobufs_while_sending_is_waited_out, PRIVATE, .faults = true)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = NULL;
	int r;

	broker_fault(broker, FAULT_SEND_FDS, ENOBUFS, 0, 1);
	r = shmb_region_create(client, "r", 4096, NULL, &region);
	CHECK(r == 0 || r == SHMB_ENOMEM); /* sent after all, or answered; never silence */
	CHECK_INT(broker_fault_hits(broker, FAULT_SEND_FDS), 1);
	shmb_region_free(region);
	shmb_client_free(client);
	check_still_serving(broker);
}

CASE(accept_fails_for_a_while, PRIVATE, .faults = true)
{
	static const int errors[] = { EMFILE, ENFILE, ENOMEM, ENOBUFS, ECONNABORTED, EINTR, EPERM };
	struct shmb_client *client = connect_to(broker), *second = NULL;
	size_t i;

	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		int r;

		broker_fault(broker, FAULT_ACCEPT, errors[i], 0, 3);
		r = shmb_client_connect(broker->socket, NULL, &second);
		if (r != 0 && r != SHMB_EMFILE && r != SHMB_ENFILE && r != SHMB_ENOMEM)
			FAIL("accept with %s: %s", strerror(errors[i]), shmb_error_name(r));
		broker_fault(broker, FAULT_ACCEPT, 0, 0, 0);
		if (r == 0)
			second = shmb_client_free(second);
		CHECK_OK(shmb_client_ping(client));
	}
	shmb_client_free(client);
	check_still_serving(broker);
}

CASE(a_failing_receive_costs_that_peer_alone, PRIVATE, .faults = true)
{
	struct shmb_client *victim = connect_to(broker);
	int r;

	broker_fault(broker, FAULT_RECEIVE, ENOMEM, 0, 1);
	r = shmb_client_ping(victim);
	CHECK(r == 0 || r == SHMB_EDISCONNECTED);
	CHECK_INT(broker_fault_hits(broker, FAULT_RECEIVE), 1);
	shmb_client_free(victim);
	check_still_serving(broker);
}

/* ---- Memory: whichever allocation fails ---- */

static int ignore(const struct shmb_region_info *info, void *userdata)
{
	return 0;
}

static int ignore_figure(const char *name, uint64_t value, void *userdata)
{
	return 0;
}

static void on_event(struct shmb_region *region, const struct shmb_event *event, void *userdata)
{
}

/* A bit of everything; any step may fail, none may fail with nonsense. */
static void use_everything(struct broker *broker, struct shmb_client *client)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region = NULL, *reader = NULL;
	int results[10] = { 0 };
	size_t i;

	options.lifetime = SHMB_PERSISTENT;
	options.capacity = 8192;
	results[0] = shmb_region_create(client, "oom", 4096, &options, &region);
	if (results[0] == 0)
		results[1] = shmb_region_open(client, "oom", SHMB_READ, NULL, &reader);
	results[2] = shmb_region_list(client, NULL, ignore, NULL);
	results[3] = shmb_client_stats(client, ignore_figure, NULL);
	if (reader)
		results[4] = shmb_region_watch(reader, SHMB_EVENT_PUBLISHED, 0, on_event, NULL);
	if (region)
		results[5] = shmb_region_resize(region, 5000);
	if (region)
		results[6] = shmb_region_publish(region, 0, 0);
	results[7] = shmb_client_ping(client);
	shmb_region_free(reader);
	shmb_region_free(region);
	if (results[0] == 0)
		results[8] = shmb_region_remove(client, "oom");
	for (i = 0; i < 10; i++)
		if (results[i] && results[i] != SHMB_ENOMEM && results[i] != SHMB_EDISCONNECTED)
			FAIL("step %zu: %s", i, shmb_error_name(results[i]));
}

CASE(whichever_allocation_fails_the_daemon_lives, PRIVATE, .faults = true, .timeout_s = 60)
{
	struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;
	struct shmb_client *client = NULL;
	int n, hits = 1;

#ifdef SHMB_TEST_SANITIZED
	SKIP("the sanitizer owns malloc");
#endif
	options.timeout_ms = 2000;
	for (n = 0; hits && n < 1000; n++) {
		broker_fault(broker, FAULT_ALLOC, ENOMEM, n, 1);
		if (shmb_client_connect(broker->socket, &options, &client) == 0)
			use_everything(broker, client);
		hits = broker_fault_hits(broker, FAULT_ALLOC);
		broker_fault(broker, FAULT_ALLOC, 0, 0, 0);
		client = shmb_client_free(client);
		UNTIL(broker, broker_stat(broker, "connections") == 1);
		client = connect_to(broker); /* what a step that failed may have left */
		shmb_region_remove(client, "oom");
		client = shmb_client_free(client);
		UNTIL(broker, broker_stat(broker, "regions") == 0);
		CHECK_INT(broker_stat(broker, "bytes"), 0);
		CHECK_INT(broker_stat(broker, "attachments"), 0);
		CHECK_INT(broker_stat(broker, "watches"), 0);
		CHECK_INT(broker_shm_count(broker), 0);
	}
	print_message("%d allocations\n", n - 1);
	CHECK(n > 5); /* the faults did strike */
	CHECK_INT(hits, 0);
	check_still_serving(broker);
}

CASE(no_memory_for_a_while, PRIVATE, .faults = true)
{
	struct shmb_client *client = connect_to(broker), *second = NULL;
	struct shmb_region *region = NULL;
	int i, r;

#ifdef SHMB_TEST_SANITIZED
	SKIP("the sanitizer owns malloc");
#endif
	broker_fault(broker, FAULT_ALLOC, ENOMEM, 0, FAULT_FOREVER);
	for (i = 0; i < 5; i++) {
		struct shmb_client_options options = SHMB_CLIENT_OPTIONS_INIT;

		options.timeout_ms = 500;
		r = shmb_client_connect(broker->socket, &options, &second);
		CHECK(r == SHMB_ENOMEM || r == SHMB_EDISCONNECTED);
		r = shmb_region_create(client, "r", 4096, NULL, &region);
		CHECK(r == SHMB_ENOMEM || r == SHMB_EDISCONNECTED);
	}
	broker_fault(broker, FAULT_ALLOC, 0, 0, 0);
	shmb_client_free(client);
	check_still_serving(broker);
	CHECK(broker_log_count(broker, "out of memory: ") == 1);
}

/* ---- Of what the system has none ---- */

/* The daemon has inherited it, as `ulimit -f` sets it; beyond it there is a signal that kills. */
CASE(a_region_beyond_the_limit_of_a_file_is_too_large, PRIVATE)
{
	const struct rlimit limit = { 4 << 20, 4 << 20 };
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options memfd = with_backing(SHMB_BACKING_MEMFD);
	struct shmb_region *region;

	SYS(prlimit(broker->pid, RLIMIT_FSIZE, &limit, NULL));
	CHECK_CODE(shmb_region_create(client, "shm", 8 << 20, NULL, &region), SHMB_EFBIG);
	CHECK_CODE(shmb_region_create(client, "memfd", 8 << 20, &memfd, &region), SHMB_EFBIG);
	shmb_client_free(client);
	check_still_serving(broker);
}

CASE(F09_a_kernel_that_has_no_huge_pages, PRIVATE, .faults = true)
{
	const struct wire_region_create_params params = {
		.name = wire_string("huge"),
		.size = 4096,
		.has = WIRE_HAS(region_create_params, backing),
		.backing = SHMB_BACKING_HUGETLB,
	};
	struct raw *raw = raw_greet(broker);

	broker_fault(broker, FAULT_MEMFD, EINVAL, 0, FAULT_FOREVER);
	CHECK_CODE(raw_call(raw, WIRE_REGION_CREATE, &params, NULL), SHMB_ENOTSUP);
	CHECK_INT(broker_log_count(broker, "memory"), 0); /* it is no fault of the daemon's */
	broker_fault(broker, FAULT_MEMFD, 0, 0, 0);
	raw_free(raw);
	check_still_serving(broker);
}
