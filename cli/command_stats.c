/* SPDX-License-Identifier: MIT */
/*
 * stats, ping: how the broker does.
 */

#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "json.h"
#include "table.h"

/* ---- stats ---- */

struct stats_walk {
	bool json, begun;
	struct json object;
	struct table table;
};

static const struct table_column stats_columns[] = {
	{ .title = "FIGURE" },
	{ .title = "VALUE", .right = true },
};

static int stats_each(const char *name, uint64_t value, void *userdata)
{
	struct stats_walk *walk = userdata;
	char text[32];

	if (walk->json) {
		if (!walk->begun) /* not before the broker answered: half an object is no JSON */
			walk->object = json_begin(stdout);
		walk->begun = true;
		json_uint(&walk->object, name, value);
		return 0;
	}
	table_add(&walk->table, name);
	snprintf(text, sizeof(text), "%" PRIu64, value);
	table_add(&walk->table, text);
	return 0;
}

static int stats_run(struct cli *cli, const void *values, int argc, char **argv)
{
	struct stats_walk walk = { .json = cli->json };
	int result, status = cli_connect(cli);

	if (status != CLI_OK)
		return status;
	table_init(&walk.table, stats_columns, sizeof(stats_columns) / sizeof(stats_columns[0]));
	result = shmb_client_stats(cli->client, stats_each, &walk);
	if (walk.begun)
		json_end(&walk.object);
	if (result == 0)
		result = table_print(&walk.table, stdout);
	table_deinit(&walk.table);
	return result < 0 ? cli_fail_client(cli, NULL, result) : CLI_OK;
}

const struct cli_command command_stats = {
	.name = "stats",
	.synopsis = "[OPTION...]",
	.summary = "Print the broker's live figures.",
	.run = stats_run,
};

/* ---- ping ---- */

struct ping_values {
	struct cli_number count;
};

static const struct cli_option ping_options[] = {
	{ 'c', "count", CLI_NUMBER, offsetof(struct ping_values, count), "COUNT",
	  "ask so many times, one right after the other, and sum up" },
};

static int ping_once(struct cli *cli, double *ret_us)
{
	struct timespec before, after;
	int result;

	clock_gettime(CLOCK_MONOTONIC, &before);
	result = shmb_client_ping(cli->client);
	clock_gettime(CLOCK_MONOTONIC, &after);
	if (result < 0)
		return result;
	*ret_us = (double)(after.tv_sec - before.tv_sec) * 1e6 +
		  (double)(after.tv_nsec - before.tv_nsec) / 1e3;
	return 0;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_summary(const struct cli *cli, double *times, size_t n)
{
	struct json json;

	qsort(times, n, sizeof(*times), compare_double);
	if (!cli->json) {
		printf("%zu answers: min %.1f us, median %.1f us, max %.1f us\n", n, times[0],
		       times[n / 2], times[n - 1]);
		return;
	}
	json = json_begin(stdout);
	json_uint(&json, "count", n);
	json_double(&json, "min_us", times[0]);
	json_double(&json, "median_us", times[n / 2]);
	json_double(&json, "max_us", times[n - 1]);
	json_end(&json);
}

static int ping_many(struct cli *cli, double *times, size_t n)
{
	struct json json;

	for (size_t i = 0; i < n; i++) {
		int result = ping_once(cli, &times[i]);

		if (result < 0)
			return cli_fail_client(cli, NULL, result);
		if (cli->json) {
			json = json_begin(stdout);
			json_double(&json, "round_trip_us", times[i]);
			json_end(&json);
		} else {
			printf("answer in %.1f us\n", times[i]);
		}
	}
	return CLI_OK;
}

static int ping_run(struct cli *cli, const void *parsed, int argc, char **argv)
{
	const struct ping_values *values = parsed;
	size_t n = values->count.given ? (size_t)values->count.value : 1;
	double *times;
	int status;

	if (n < 1 || n > 1000000)
		return cli_usage(cli, "--count is 1 to 1000000");
	status = cli_connect(cli);
	if (status != CLI_OK)
		return status;
	times = calloc(n, sizeof(*times));
	if (times == NULL)
		return cli_fail_client(cli, NULL, SHMB_ENOMEM);
	status = ping_many(cli, times, n);
	if (status == CLI_OK && values->count.given)
		print_summary(cli, times, n);
	free(times);
	return status;
}

const struct cli_command command_ping = {
	.name = "ping",
	.synopsis = "[-c COUNT]",
	.summary = "Ask the broker for an answer, and tell how long it took.",
	.options = ping_options,
	.n_options = sizeof(ping_options) / sizeof(ping_options[0]),
	.values_size = sizeof(struct ping_values),
	.run = ping_run,
};
