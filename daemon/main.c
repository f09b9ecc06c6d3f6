/* SPDX-License-Identifier: MIT */
/*
 * shmbrokerd: see shmbrokerd(8).
 */
#include "daemon.h"
#include "log.h"
#include "options.h"

int main(int argc, char **argv)
{
	struct options options;

	log_open();
	switch (options_parse(argc, argv, &options)) {
	case OPTIONS_DONE:
		return EXIT_CODE_OK;
	case OPTIONS_USAGE:
		return EXIT_CODE_USAGE;
	case OPTIONS_RUN:
		break;
	}
	return daemon_run(&options);
}
