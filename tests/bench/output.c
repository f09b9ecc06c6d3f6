/* SPDX-License-Identifier: MIT */
/* Showing figures. Knows nothing of how they were measured. */

#include <stdio.h>
#include <string.h>

#include "output.h"

void output_begin(const struct output *output)
{
	if (output->json)
		return;
	printf("%-20s %12s %12s %6s  %-5s %5s  %-14s %17s  %s\n", "figure", "ours", "floor",
	       "ratio", "unit", "n", "aim", "beside", "the floor is");
	(void)fflush(stdout);
}

static void json_line(const char *name, const char *suffix, double ours, double floor,
		      const char *unit, uint64_t n)
{
	printf("{\"name\":\"%s%s\",\"ours\":%.6g,\"floor\":%.6g,\"ratio\":%.4g,\"unit\":\"%s\","
	       "\"n\":%llu}\n",
	       name, suffix, ours, floor, ours / floor, unit, (unsigned long long)n);
}

static void aim_text(const struct bench_figure *figure, const struct bench_result *result,
		     char *text, size_t size)
{
	bool met;

	if (figure->aim_ratio > 0) {
		met = result->ours / result->floor <= figure->aim_ratio;
		(void)snprintf(text, size, "x%.4g %s", figure->aim_ratio, met ? "met" : "MISSED");
	} else if (figure->aim_more > 0) {
		met = result->ours - result->floor <= figure->aim_more;
		(void)snprintf(text, size, "+%.4g %s", figure->aim_more, met ? "met" : "MISSED");
	} else if (figure->aim_most > 0) {
		met = result->ours <= figure->aim_most;
		(void)snprintf(text, size, "<=%.4g %s", figure->aim_most, met ? "met" : "MISSED");
	} else {
		(void)snprintf(text, size, "-");
	}
}

static void show_json(const char *name, const struct bench_figure *figure,
		      const struct bench_result *result)
{
	char suffix[32];

	json_line(name, "", result->ours, result->floor, figure->unit, result->n);
	if (result->ours_p99 > 0)
		json_line(name, "_p99", result->ours_p99, result->floor_p99, figure->unit,
			  result->n);
	/* The column beside it is a line of its own: the same ours against the third way. */
	if (result->beside > 0) {
		(void)snprintf(suffix, sizeof(suffix), "_vs_%s", figure->beside);
		json_line(name, suffix, result->ours, result->beside, figure->unit, result->n);
	}
}

static void table_line(const char *name, const char *suffix, double ours, double floor,
		       const struct bench_figure *figure, uint64_t n, const char *aim,
		       const char *beside)
{
	char whole[64];

	(void)snprintf(whole, sizeof(whole), "%s%s", name, suffix);
	printf("%-20s %12.1f %12.1f %6.3f  %-5s %5llu  %-14s %17s  %s\n", whole, ours, floor,
	       ours / floor, figure->unit, (unsigned long long)n, aim, beside, figure->floor);
}

static void show_table(const char *name, const struct bench_figure *figure,
		       const struct bench_result *result)
{
	char aim[32], beside[48] = "-";

	aim_text(figure, result, aim, sizeof(aim));
	if (result->beside > 0)
		(void)snprintf(beside, sizeof(beside), "%s %.1f", figure->beside, result->beside);
	table_line(name, "", result->ours, result->floor, figure, result->n, aim, beside);
	if (result->ours_p99 > 0)
		table_line(name, "_p99", result->ours_p99, result->floor_p99, figure, result->n,
			   "-", "-");
}

void output_figure(const struct output *output, const char *name, const struct bench_figure *figure,
		   const struct bench_result *result)
{
	if (output->json)
		show_json(name, figure, result);
	else
		show_table(name, figure, result);
	(void)fflush(stdout);
}
