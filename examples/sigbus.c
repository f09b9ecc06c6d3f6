/* SPDX-License-Identifier: MIT */
/*
 * What happens to those who have a file mapped when somebody cuts it off: three processes, three
 * ways.
 *
 *	by hand     mmap(2): touching what is gone is a SIGBUS, and the process dies of it
 *	unguarded   a region with SHMB_UNGUARDED, which asks for just that
 *	guarded     a region: an error code where the program can see it, and it goes on
 */
#define _POSIX_C_SOURCE 200809L /* for -std=c11, which hides what is not of C alone */

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

static const char *program; /* to be started again */

enum { PAGE = 4096, SIZE = 4 * PAGE, GONE = 3 * PAGE };

static bool fill(const char *path)
{
	char bytes[SIZE];
	FILE *file = fopen(path, "we");
	bool good;

	memset(bytes, 'x', sizeof(bytes));
	good = file && fwrite(bytes, sizeof(bytes), 1, file) == 1;
	return file && fclose(file) == 0 && good;
}

/* Somebody else: an editor, a log rotation, a full disk's helpful administrator. */
static bool cut_off(const char *path)
{
	return truncate(path, PAGE) == 0;
}

static int by_hand(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	volatile const char *data = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

	if (data == MAP_FAILED || !cut_off(path))
		return EXIT_FAILURE;
	return data[GONE] == 'x' ? 2 : 3; /* never gets here */
}

static int as_region(const char *path, bool guarded)
{
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	char byte;
	int r = shmb_client_connect(NULL, NULL, &client);

	options.backing = SHMB_BACKING_FILE;
	options.path = path;
	options.access = SHMB_READ;
	options.flags = guarded ? 0 : SHMB_UNGUARDED;
	if (r >= 0)
		r = shmb_region_create(client, NULL, 0, &options, &region);
	if (r < 0 || !cut_off(path))
		return EXIT_FAILURE;
	r = shmb_region_read(region, GONE, &byte, 1, 0);
	printf("            reading what is gone: %s\n", shmb_strerror(r));
	if (r == SHMB_EBUS)
		r = shmb_region_read(region, 0, &byte, 1, 0); /* what is there is still there */
	shmb_region_free(region);
	shmb_client_free(client);
	return r == 0 && byte == 'x' ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Return: how the process ended, as wait(2) has it. */
static int run(const char *way, const char *path)
{
	int status = -1;
	pid_t pid;

	if (!fill(path))
		return -1;
	pid = fork();
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)execlp(program, "sigbus", way, path, (char *)NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	printf("%-11s %s\n", way,
	       WIFSIGNALED(status) ? strsignal(WTERMSIG(status))
	       : status == 0       ? "goes on"
				   : "failed");
	(void)fflush(stdout);
	return status;
}

static bool died_of_it(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
}

int main(int argc, char **argv)
{
	char path[] = "/tmp/sigbus.XXXXXX";
	bool good;
	int fd;

	program = argv[0];
	(void)signal(SIGBUS, SIG_DFL); /* whatever a sanitizer has made of it */
	if (argc == 3 && strcmp(argv[1], "by hand") == 0)
		return by_hand(argv[2]);
	if (argc == 3)
		return as_region(argv[2], strcmp(argv[1], "guarded") == 0);
	fd = mkstemp(path);
	if (fd < 0)
		return EXIT_FAILURE;
	(void)close(fd);
	good = died_of_it(run("by hand", path));
	good = died_of_it(run("unguarded", path)) && good;
	good = run("guarded", path) == 0 && good;
	(void)unlink(path);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
