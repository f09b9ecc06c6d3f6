/* SPDX-License-Identifier: MIT */
/*
 * Looks through /proc/self/mountinfo without allocating, as this runs in a process that was forked
 * from one with threads. A line is "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELDS] - TYPE ...".
 */
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { DEVICE_FIELD = 2, WORD = 24 };

struct reader {
	unsigned field;
	char word[WORD + 1]; /* of the field, as much as fits */
	size_t length;
	bool is_device; /* this line is of the device looked for */
	bool is_type;   /* the next field is the file system's type */
	bool found;
	char wanted[WORD + 1];
};

static size_t put_number(char *at, unsigned number)
{
	char digits[12];
	size_t n = 0, i;

	do
		digits[n++] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	for (i = 0; i < n; i++)
		at[i] = digits[n - 1 - i];
	return n;
}

static void name_device(dev_t device, char ret_name[WORD + 1])
{
	size_t length = put_number(ret_name, major(device));

	ret_name[length++] = ':';
	length += put_number(ret_name + length, minor(device));
	ret_name[length] = '\0';
}

static void end_word(struct reader *reader)
{
	reader->word[reader->length] = '\0';
	if (reader->field == DEVICE_FIELD)
		reader->is_device = strcmp(reader->word, reader->wanted) == 0;
	if (reader->is_type && reader->is_device && strcmp(reader->word, "overlay") == 0)
		reader->found = true;
	/* Blanks in paths are escaped, so that this is no part of one; options never are it. */
	reader->is_type = reader->field > DEVICE_FIELD && strcmp(reader->word, "-") == 0;
	reader->field++;
	reader->length = 0;
}

static void take(struct reader *reader, char character)
{
	if (character != ' ' && character != '\n') {
		if (reader->length < WORD)
			reader->word[reader->length++] = character;
		return;
	}
	end_word(reader);
	if (character == '\n') {
		reader->field = 0;
		reader->is_device = reader->is_type = false;
	}
}

bool overlay_is_mounted(dev_t device)
{
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	struct reader reader = { 0 };
	char buffer[1024];
	ssize_t n;

	if (fd < 0)
		return false;
	name_device(device, reader.wanted);
	while (!reader.found &&
	       ((n = read(fd, buffer, sizeof(buffer))) > 0 || (n < 0 && errno == EINTR)))
		for (ssize_t i = 0; i < n; i++)
			take(&reader, buffer[i]);
	close(fd);
	return reader.found;
}
