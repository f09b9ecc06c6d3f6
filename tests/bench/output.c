/* SPDX-License-Identifier: MIT */
/* Showing figures. Knows nothing of how they were measured. */

#include <stdio.h>
#include <string.h>

#include "output.h"

void output_begin(const struct output *output)
{
	if (output->json)
		return;
	printf("%-20s %12s %12s %6s  %-5s %5s  %-14s %12s  %s\n", "figure", "ours", "floor",
	       "ratio", "unit", "n", "aim", "socket copy", "the floor is");
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

void output_figure(const struct output *output, const char *name, const struct bench_figure *figure,
		   const struct bench_result *result)
{
	char aim[32], socket[32] = "-";

	if (output->json) {
		json_line(name, "", result->ours, result->floor, figure->unit, result->n);
		/* The column beside it is a line of its own: the same ours against the socket. */
		if (result->socket > 0)
			json_line(name, "_vs_socket", result->ours, result->socket, figure->unit,
				  result->n);
		(void)fflush(stdout);
		return;
	}
	aim_text(figure, result, aim, sizeof(aim));
	if (result->socket > 0)
		(void)snprintf(socket, sizeof(socket), "%.1f", result->socket);
	printf("%-20s %12.1f %12.1f %6.3f  %-5s %5llu  %-14s %12s  %s\n", name, result->ours,
	       result->floor, result->ours / result->floor, figure->unit,
	       (unsigned long long)result->n, aim, socket, figure->floor);
	(void)fflush(stdout);
}
