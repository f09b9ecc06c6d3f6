/* SPDX-License-Identifier: MIT */
/* A program outside the tree, built against what was installed: one region, written and read back.
 */
#include <shmbroker/shmbroker.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
	struct shmb_client *client = NULL;
	struct shmb_region *region = NULL;
	char text[32] = "";
	int result = shmb_client_connect(NULL, NULL, &client);

	if (result == 0)
		result = shmb_region_create(client, "installed", 4096, NULL, &region);
	if (result == 0)
		result = shmb_region_write_string(region, 0, "it works");
	if (result == 0 && shmb_region_read_string(region, 0, text, sizeof(text)) < 0)
		result = SHMB_EIO;
	printf("%s: %s (library %s)\n", shmb_error_name(result), text, shmb_version());
	shmb_region_free(region);
	shmb_client_free(client);
	return result == 0 && strcmp(text, "it works") == 0 ? 0 : 1;
}
