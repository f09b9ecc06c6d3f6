/* SPDX-License-Identifier: MIT */
/*
 * The daemon as a program: its command line, its lock, its socket, its end, and what it tells the
 * service manager.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness.h"

static int run(struct broker *broker, const char *const arguments[])
{
	broker_spawn(broker, arguments);
	return broker_wait(broker);
}

static void write_config(const struct broker *broker, const char *text)
{
	FILE *file = fopen(broker_path(broker, "config"), "we");

	CHECK(file && fputs(text, file) >= 0);
	CHECK_OK(fclose(file));
}

CASE(help_and_version, PRIVATE, .bare = true)
{
	CHECK_INT(run(broker, (const char *[]){ "--help", NULL }), 0);
	CHECK(broker_log_count(broker, "--system") > 0);
	CHECK(broker_log_count(broker, "--regions-per-user") > 0);
	CHECK(broker_log_count(broker, "--slow-timeout") > 0);
	CHECK_INT(run(broker, (const char *[]){ "--version", NULL }), 0);
	CHECK(broker_log_count(broker, "shmbrokerd 0.1.0") +
		      broker_log_count(broker, "shmbroker 0.1.0") >
	      0);
}

CASE(usage_errors_are_2, PRIVATE, .bare = true)
{
	CHECK_INT(run(broker, (const char *[]){ "--no-such-option", NULL }), 2);
	CHECK_INT(run(broker, (const char *[]){ "--socket", NULL }), 2);
	CHECK_INT(run(broker, (const char *[]){ "stray", NULL }), 2);
	CHECK_INT(run(broker, (const char *[]){ "--private", "--exit-on-eof=x", NULL }), 2);
}

static int check_config(struct broker *broker, const char *text)
{
	char config[128];

	write_config(broker, text);
	snprintf(config, sizeof(config), "--config=%s/config", broker->directory);
	return run(broker, (const char *[]){ "--system", "--check-config", config, NULL });
}

CASE(check_config_says_what_is_wrong, PRIVATE, .bare = true)
{
	CHECK_INT(check_config(broker, ""), 0);
	CHECK_INT(check_config(broker, "[limits]\nregions-per-user = 12\nbytes-per-user = 3G\n"
				       "[broker]\nslow-timeout = 5s\nallow-shm = a/,b/\n"),
		  0);
	CHECK_INT(check_config(broker, "[limits]\nno-such-key = 1\n"), 3);
	CHECK_INT(broker_log_count(broker, "no-such-key"), 1);
	CHECK_INT(check_config(broker, "[limits]\nregions-per-user = many\n"), 3);
	CHECK_INT(check_config(broker, "[limits]\nregions-per-user = -1\n"), 3);
	CHECK_INT(check_config(broker, "[limits]\nbytes-per-user = 99999999999999999999\n"), 3);
	CHECK_INT(check_config(broker, "[broker]\nregions-per-user = 1\n"), 3);
	CHECK_INT(check_config(broker, "not an ini file\n"), 3);
	CHECK_INT(run(broker, (const char *[]){ "--check-config", "--config=/nonexistent", NULL }),
		  3);
	CHECK_INT(run(broker, (const char *[]){ "--check-config", "--log-level=loud", NULL }), 3);
}

/* ---- Starting ---- */

static struct broker_options second_options = { .own_socket = true };

CASE(a_second_daemon_is_refused_and_names_the_first, PRIVATE)
{
	struct broker second;
	char pid[32];

	broker_prepare(&second, &second_options);
	rmdir(second.directory);
	unlink(broker_path(&second, "config"));
	rmdir(second.directory);
	snprintf(second.directory, sizeof(second.directory), "%s", broker->directory);
	snprintf(second.runtime, sizeof(second.runtime), "%s", broker->runtime);
	snprintf(second.socket, sizeof(second.socket), "%s/socket2", broker->directory);
	snprintf(second.log, sizeof(second.log), "%s/log2", broker->directory);
	broker_start(&second);
	CHECK_INT(broker_wait(&second), 4);
	snprintf(pid, sizeof(pid), "%d", (int)broker->pid);
	CHECK_INT(broker_log_count(&second, pid), 1);
	CHECK(access(second.socket, F_OK) < 0);
	shmb_client_free(connect_to(broker));
}

/* Runs until its socket answers; with no activation there is a time before that. */
static void wait_until_it_serves(struct broker *broker)
{
	struct shmb_client *client = NULL;
	int64_t end = harness_now_ms() + 10000 * harness_slow();

	while (shmb_client_connect(broker->socket, NULL, &client) != 0) {
		CHECK(harness_now_ms() < end);
		broker_turn(broker);
	}
	shmb_client_free(client);
}

CASE(a_socket_of_its_own, PRIVATE, .own_socket = true)
{
	struct stat st;

	wait_until_it_serves(broker);
	CHECK_OK(stat(broker->socket, &st));
	CHECK_INT(st.st_mode & 0777, 0600);
	CHECK_INT(broker_stop(broker), 0);
	CHECK(access(broker->socket, F_OK) < 0);
	CHECK(access(broker_path(broker, "broker.lock"), F_OK) < 0);
}

CASE(a_system_socket_is_for_everybody, SYSTEM, .own_socket = true)
{
	struct stat st;

	wait_until_it_serves(broker);
	CHECK_OK(stat(broker->socket, &st));
	CHECK_INT(st.st_mode & 0777, 0666);
}

static int make_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = SYS(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	SYS(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	SYS(listen(fd, 5));
	return fd;
}

CASE(a_dead_socket_is_replaced, PRIVATE, .bare = true, .own_socket = true)
{
	close(make_socket(broker->socket));
	CHECK_OK(access(broker->socket, F_OK));
	broker_start(broker);
	wait_until_it_serves(broker);
}

CASE(a_live_socket_is_refused, PRIVATE, .bare = true, .own_socket = true)
{
	int fd = make_socket(broker->socket);
	char pid[32];

	broker_start(broker);
	CHECK_INT(broker_wait(broker), 4);
	snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	CHECK_INT(broker_log_count(broker, pid), 1);
	CHECK_OK(access(broker->socket, F_OK));
	close(fd);
	unlink(broker->socket);
}

CASE(a_file_that_is_no_socket_is_left_alone, PRIVATE, .bare = true, .own_socket = true)
{
	int fd = SYS(open(broker->socket, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	struct stat st;

	CHECK_INT(write(fd, "precious", 8), 8);
	close(fd);
	broker_start(broker);
	CHECK_INT(broker_wait(broker), 1);
	CHECK_OK(stat(broker->socket, &st));
	CHECK_INT(st.st_size, 8);
	unlink(broker->socket);
}

/* ---- Ending ---- */

CASE(sigterm_takes_everything_with_it, PRIVATE)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;

	options.lifetime = SHMB_PERSISTENT;
	region = create(client, "r", 4096, &options);
	CHECK_INT(broker_shm_count(broker), 2);
	CHECK_INT(broker_stop(broker), 0);
	CHECK_INT(broker_shm_count(broker), 0);
	CHECK_CODE(shmb_client_ping(client), SHMB_EDISCONNECTED);
	CHECK_OK(shmb_region_write_u32(region, 0, 5));
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(sigint_is_the_same, PRIVATE)
{
	SYS(kill(broker->pid, SIGINT));
	CHECK_INT(broker_wait(broker), 0);
}

CASE(end_of_file_is_the_same, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "r", 4096, NULL);

	close(broker->eof);
	broker->eof = -1;
	CHECK_INT(broker_wait(broker), 0);
	CHECK_INT(broker_shm_count(broker), 0);
	shmb_region_free(region);
	shmb_client_free(client);
}

CASE(it_ends_while_a_long_resize_is_under_way, PRIVATE)
{
	struct raw *raw = raw_connect(broker);
	struct wire_region_attached attached;
	struct wire_region_resize_params resize = { .size = 1 };
	int fds[2];

	raw_hello(raw);
	CHECK_OK(raw_create(raw, "big", 256 << 20, 0700, SHMB_ATTACHED, &attached, fds));
	CHECK_OK(posix_fallocate(fds[0], 0, 256 << 20));
	resize.handle = attached.handle;
	CHECK_OK(raw_request(raw, WIRE_REGION_RESIZE, &resize));
	CHECK_INT(broker_stop(broker), 0);
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
}

CASE(others_are_served_while_a_long_resize_is_under_way, PRIVATE)
{
	struct raw *raw = raw_connect(broker);
	struct wire_region_attached attached;
	struct wire_region_resize_params resize = { .size = 1 };
	unsigned served = 0;
	int fds[2];

	raw_hello(raw);
	CHECK_OK(raw_create(raw, "big", 1 << 30, 0700, SHMB_ATTACHED, &attached, fds));
	CHECK_OK(posix_fallocate(fds[0], 0, 1 << 30));
	resize.handle = attached.handle;
	CHECK_OK(raw_request(raw, WIRE_REGION_RESIZE, &resize));
	while (!raw_ready(raw, 0)) {
		CHECK_OK(raw_call(broker->probe, WIRE_PING, NULL, NULL));
		served++;
	}
	CHECK(served > 2); /* a loop that stood still would answer one before and one after */
	CHECK_INT(raw_receive(raw), 1);
	CHECK(!raw->message.failed);
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
}

/* ---- Reloading ---- */

static int try_create(struct shmb_client *client, const char *name)
{
	struct shmb_region *region = NULL;
	int r = shmb_region_create(client, name, 4096, NULL, &region);

	if (r == 0)
		CHECK_OK(shmb_region_close(region));
	shmb_region_free(region);
	return r;
}

CASE(sighup_reloads_limits, PRIVATE, .config = "[limits]\nregions-per-user = 1\n")
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "one", 4096, NULL);

	CHECK_CODE(try_create(client, "two"), SHMB_EDQUOT);
	write_config(broker, "[limits]\nregions-per-user = 2\n");
	SYS(kill(broker->pid, SIGHUP));
	UNTIL(broker, try_create(client, "two") == 0);

	/* A mistake leaves everything as it was. */
	write_config(broker, "[limits]\nregions-per-user = lots\n");
	SYS(kill(broker->pid, SIGHUP));
	UNTIL(broker, broker_log_count(broker, "lots") == 1);
	UNTIL(broker, try_create(client, "two") == 0);

	/* Less than there is: nothing is taken away, nothing more is given. */
	write_config(broker, "[limits]\nregions-per-user = 0\n");
	SYS(kill(broker->pid, SIGHUP));
	UNTIL(broker, try_create(client, "two") == SHMB_EDQUOT);
	CHECK_OK(shmb_region_write_u32(region, 0, 1));
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- The service manager ---- */

static bool notified(int fd, const char *what)
{
	char text[1024];
	ssize_t n;

	while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000) == 1) {
		n = recv(fd, text, sizeof(text) - 1, 0);
		if (n <= 0)
			return false;
		text[n] = '\0';
		if (strstr(text, what))
			return true;
	}
	return false;
}

static int make_notify_socket(const struct broker *broker)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = SYS(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", broker_path(broker, "notify"));
	SYS(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	return fd;
}

CASE(sd_notify_tells_ready_status_reloading_stopping, PRIVATE, .bare = true,
     .notify_socket = "notify")
{
	int fd = make_notify_socket(broker);

	broker_start(broker);
	CHECK(notified(fd, "READY=1"));
	SYS(kill(broker->pid, SIGHUP));
	CHECK(notified(fd, "RELOADING=1"));
	CHECK(notified(fd, "READY=1\nSTATUS="));
	CHECK_INT(broker_stop(broker), 0);
	CHECK(notified(fd, "STOPPING=1"));
	close(fd);
}

CASE(it_says_little_and_holds_few_descriptors, PRIVATE)
{
	struct stat st;

	CHECK(broker->fds < 24);
	shmb_client_free(connect_to(broker));
	CHECK_OK(stat(broker->log, &st));
	CHECK_INT(st.st_size, 0);
}
