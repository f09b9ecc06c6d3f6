/* SPDX-License-Identifier: MIT */
/* Configuration: values, units, limits, precedence, and what is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "options.h"

#define MIB (UINT64_C(1) << 20)

static int load(char **argv, struct settings *settings)
{
	struct options options;
	int argc = 0;

	while (argv[argc])
		argc++;
	optind = 0;
	assert_int_equal(options_parse(argc, argv, &options), OPTIONS_RUN);
	return settings_load(&options, settings);
}

static int load_one(const char *argument, struct settings *settings)
{
	char *argv[] = { "shmbrokerd", (char *)argument, NULL };

	return load(argv, settings);
}

static char *config_file(const char *text)
{
	static char argument[64];
	char path[] = "/tmp/shmb-options.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	snprintf(argument, sizeof(argument), "--config=%s", path);
	return argument;
}

static int load_file(const char *text, const char *argument, struct settings *settings)
{
	char *config = config_file(text);
	char *argv[] = { "shmbrokerd", config, (char *)argument, NULL };
	int result = load(argv, settings);

	unlink(strchr(config, '=') + 1);
	return result;
}

static void defaults(void **state)
{
	struct settings s;
	char *argv[] = { "shmbrokerd", NULL };

	assert_int_equal(load(argv, &s), 0);
	assert_int_equal(s.per_user[CHARGE_REGIONS], 65536);
	assert_int_equal(s.per_user[CHARGE_BYTES], 65536 * MIB);
	assert_int_equal(s.slow_timeout_ms, 30000);
	assert_int_equal(s.log_level, LOG_LEVEL_NOTICE);
	assert_string_equal(s.allow_shm, "");
}

static void units(void **state)
{
	struct settings s;

	assert_int_equal(load_one("--bytes-per-user=12", &s), 0);
	assert_int_equal(s.per_user[CHARGE_BYTES], 12);
	assert_int_equal(load_one("--bytes-per-user=3M", &s), 0);
	assert_int_equal(s.per_user[CHARGE_BYTES], 3 * MIB);
	assert_int_equal(load_one("--bytes-per-user=1T", &s), 0);
	assert_int_equal(s.per_user[CHARGE_BYTES], MIB * MIB);
	assert_int_equal(load_one("--slow-timeout=250ms", &s), 0);
	assert_int_equal(s.slow_timeout_ms, 250);
	assert_int_equal(load_one("--slow-timeout=2m", &s), 0);
	assert_int_equal(s.slow_timeout_ms, 120000);
	assert_int_equal(load_one("--slow-timeout=7", &s), 0);
	assert_int_equal(s.slow_timeout_ms, 7000);
	assert_int_equal(load_one("--socket-mode=0640", &s), 0);
	assert_int_equal(s.socket_mode, 0640);
	assert_int_equal(load_one("--log-level=debug", &s), 0);
	assert_int_equal(s.log_level, LOG_LEVEL_DEBUG);
}

static void refused(void **state)
{
	static const char *const wrong[] = {
		"--bytes-per-user=",        "--bytes-per-user=-1",
		"--bytes-per-user=1X",      "--bytes-per-user=1KK",
		"--bytes-per-user= 1",      "--bytes-per-user=99999999T",
		"--regions-per-user=1K",    "--regions-per-user=99999999999999999999",
		"--slow-timeout=1d",        "--slow-timeout=0",
		"--slow-timeout=s",         "--socket-mode=8",
		"--socket-mode=1777",       "--log-level=loud",
		"--connections-per-user=0", "--max-region=100",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct settings s = { .max_region = 42 };

		if (load_one(wrong[i], &s) == 0)
			fail_msg("taken: %s", wrong[i]);
		assert_int_equal(s.max_region, 42);
	}
}

static void file_and_command_line(void **state)
{
	const char *text =
		"# a comment\n[limits]\nregions-per-user = 5\nbytes-per-user = 1G ; half\n"
		"[broker]\nallow-shm = render/,audio/\n";
	struct settings s;

	assert_int_equal(load_file(text, NULL, &s), 0);
	assert_int_equal(s.per_user[CHARGE_REGIONS], 5);
	assert_int_equal(s.per_user[CHARGE_BYTES], 1024 * MIB);
	assert_true(settings_allows_shm(&s, "render/x"));
	assert_true(settings_allows_shm(&s, "audio/x"));
	assert_false(settings_allows_shm(&s, "video/x"));
	assert_false(settings_allows_shm(&s, "render"));
	assert_int_equal(load_file(text, "--regions-per-user=6", &s), 0);
	assert_int_equal(s.per_user[CHARGE_REGIONS], 6);
}

static void bad_files(void **state)
{
	static const char *const wrong[] = {
		"[limits]\nno-such-key = 1\n",
		"[broker]\nregions-per-user = 1\n",
		"[limits]\nregions-per-user = many\n",
		"regions-per-user = 1\n",
		"[limits\n",
	};
	struct settings s;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (load_file(wrong[i], NULL, &s) == 0)
			fail_msg("taken: %s", wrong[i]);
	assert_int_not_equal(load_one("--config=/nonexistent/shmbroker.conf", &s), 0);
}

static void empty_prefixes_allow_nothing(void **state)
{
	struct settings s = { .allow_shm = ",," };

	assert_false(settings_allows_shm(&s, "a"));
}

static void users_who_may_pass_files(void **state)
{
	struct settings s;

	assert_int_equal(load_file("[limits]\n", NULL, &s), 0);
	assert_false(settings_allows_adopt(&s, 1));
	assert_int_equal(load_file("[broker]\nallow-adopt = 12, root,345\n", NULL, &s), 0);
	assert_true(settings_allows_adopt(&s, 12));
	assert_true(settings_allows_adopt(&s, 345));
	assert_true(settings_allows_adopt(&s, 0));
	assert_false(settings_allows_adopt(&s, 1));
	assert_false(settings_allows_adopt(&s, 2));
	assert_false(settings_allows_adopt(&s, 34));
	assert_int_equal(load_file("[broker]\nallow-adopt = *\n", NULL, &s), 0);
	assert_true(settings_allows_adopt(&s, 77));
	assert_int_not_equal(load_one("--allow-adopt=12,no-such-user-here", &s), 0);
	assert_int_not_equal(load_one("--allow-adopt=12x", &s), 0);
	assert_int_not_equal(load_one("--allow-adopt=4294967295", &s), 0);
	assert_int_not_equal(load_one("--allow-adopt=-1", &s), 0);
}

static void command_line(void **state)
{
	char *argv[] = { "shmbrokerd", "--system", "--socket=/a/b", "--exit-on-eof=7", NULL };
	char *unknown[] = { "shmbrokerd", "--no-such-option", NULL };
	char *surplus[] = { "shmbrokerd", "argument", NULL };
	char *bad_fd[] = { "shmbrokerd", "--exit-on-eof=x", NULL };
	struct options o;

	optind = 0;
	assert_int_equal(options_parse(4, argv, &o), OPTIONS_RUN);
	assert_int_equal(o.scope, SCOPE_SYSTEM);
	assert_string_equal(o.socket, "/a/b");
	assert_int_equal(o.eof_fd, 7);
	optind = 0;
	assert_int_equal(options_parse(2, unknown, &o), OPTIONS_USAGE);
	optind = 0;
	assert_int_equal(options_parse(2, surplus, &o), OPTIONS_USAGE);
	optind = 0;
	assert_int_equal(options_parse(2, bad_fd, &o), OPTIONS_USAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),     cmocka_unit_test(units),
		cmocka_unit_test(refused),      cmocka_unit_test(file_and_command_line),
		cmocka_unit_test(bad_files),    cmocka_unit_test(empty_prefixes_allow_nothing),
		cmocka_unit_test(command_line), cmocka_unit_test(users_who_may_pass_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
