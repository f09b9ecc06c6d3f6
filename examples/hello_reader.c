/* SPDX-License-Identifier: MIT */
/* The second half of the smallest pair of programs; hello_writer.c is the other. Start either
 * first. */
#include <stdio.h>
#include <shmbroker/shmbroker.h>

int main(void)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	char text[64];
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = shmb_region_open_or_create(client, "hello", 4096, NULL, &region);
	if (r >= 0)
		r = shmb_region_wait(region, 0, 10000, NULL); /* publish 1: the greeting is there */
	if (r >= 0)
		r = (int)shmb_region_read_string(region, 0, text, sizeof(text));
	if (r >= 0)
		puts(text);
	if (r >= 0)
		r = shmb_region_publish(region, 0, 0); /* publish 2: it was read */
	if (r < 0)
		fprintf(stderr, "hello_reader: %s\n", shmb_strerror(r));
	shmb_region_free(region);
	shmb_client_free(client);
	return r < 0;
}
