/* SPDX-License-Identifier: MIT */
/* The first half of the smallest pair of programs; hello_reader.c is the other. Start either first.
 */
/* README: begin */
#include <stdio.h>
#include <shmbroker/shmbroker.h>

int main(void)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	int r = shmb_client_connect(NULL, NULL, &client);

	if (r >= 0)
		r = shmb_region_open_or_create(client, "hello", 4096, NULL, &region);
	if (r >= 0)
		r = shmb_region_write_string(region, 0, "hello from another process");
	if (r >= 0)
		r = shmb_region_publish(region, 0, 0); /* publish 1: the greeting is there */
	if (r >= 0)
		r = shmb_region_wait(region, 1, 10000, NULL); /* publish 2: it was read */
	if (r < 0)
		fprintf(stderr, "hello_writer: %s\n", shmb_strerror(r));
	shmb_region_free(region); /* the last one to let go takes the region with it */
	shmb_client_free(client);
	return r < 0;
}
/* README: end */
