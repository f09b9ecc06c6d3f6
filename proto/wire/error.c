/* SPDX-License-Identifier: MIT */
/*
 * Errors between number, wire name and sentence: SHMB_ERROR_MAP as functions. Constant data only,
 * so that signal handlers may ask, too.
 */

#include <string.h>

#include "wire/wire.h"

int wire_error_code(const char *name, size_t length)
{
	static const struct {
		const char *name;
		int code;
	} errors[] = {
#define ERROR_CODE(identifier, number, wire_name, sentence) { wire_name, SHMB_##identifier },
		SHMB_ERROR_MAP(ERROR_CODE)
	};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		if (strlen(errors[i].name) == length && memcmp(errors[i].name, name, length) == 0)
			return errors[i].code;
	}
	return SHMB_EUNKNOWN;
}

/* Switches, so that two errors of one number do not compile. */

const char *wire_error_name(int code)
{
	switch (code) {
#define ERROR_NAME(identifier, number, wire_name, sentence) \
	case SHMB_##identifier:                             \
		return wire_name;
		SHMB_ERROR_MAP(ERROR_NAME)
	default:
		return wire_error_name(SHMB_EUNKNOWN);
	}
}

const char *wire_error_sentence(int code)
{
	switch (code) {
	case 0:
		return "no error";
#define ERROR_SENTENCE(identifier, number, wire_name, sentence) \
	case SHMB_##identifier:                                 \
		return sentence;
		SHMB_ERROR_MAP(ERROR_SENTENCE)
	default:
		return wire_error_sentence(SHMB_EUNKNOWN);
	}
}
