/* SPDX-License-Identifier: MIT */
/*
 * The bounded buffer: one process produces, another consumes, and two counting semaphores say how
 * many places are free and how many are filled. Neither ever asks the broker, and as long as there
 * is something to do, neither makes a system call.
 *
 * Whatever was written before a post is seen by whoever takes it: the buffer needs no lock. With
 * several producers (or consumers), hold the region's lock around the place that they share.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/shmbroker.h>

enum { PLACES = 8, ITEMS = 100000, PATIENCE_MS = 10000 };

struct shop {
	struct shmb_client *client;
	struct shmb_region *buffer;
	struct shmb_semaphore *free, *filled;
};

static int semaphore_open(struct shop *shop, const char *name, uint32_t initial,
			  struct shmb_semaphore **ret_semaphore)
{
	struct shmb_semaphore_options options = SHMB_SEMAPHORE_OPTIONS_INIT;

	options.initial = initial;
	options.maximum = PLACES;
	return shmb_semaphore_open_or_create(shop->client, name, &options, ret_semaphore);
}

/* Both do the same; who comes first makes the things, who goes last takes them with it. */
static int shop_open(struct shop *shop)
{
	int r = shmb_client_connect(NULL, NULL, &shop->client);

	if (r >= 0)
		r = shmb_region_open_or_create(shop->client, "shop/buffer",
					       PLACES * sizeof(uint64_t), NULL, &shop->buffer);
	if (r >= 0)
		r = semaphore_open(shop, "shop/free", PLACES, &shop->free);
	if (r >= 0)
		r = semaphore_open(shop, "shop/filled", 0, &shop->filled);
	return r;
}

static void shop_close(struct shop *shop)
{
	shmb_semaphore_free(shop->filled);
	shmb_semaphore_free(shop->free);
	shmb_region_free(shop->buffer);
	shmb_client_free(shop->client);
}

static int produce(struct shop *shop)
{
	uint64_t *buffer = shmb_region_data(shop->buffer);
	int r = 0;

	for (uint64_t item = 0; r >= 0 && item < ITEMS; item++) {
		r = shmb_semaphore_wait(shop->free, PATIENCE_MS);
		if (r < 0)
			break;
		buffer[item % PLACES] = item * item;
		r = shmb_semaphore_post(shop->filled, 1);
	}
	/* All places free again: the consumer is done. */
	for (int i = 0; r >= 0 && i < PLACES; i++)
		r = shmb_semaphore_wait(shop->free, PATIENCE_MS);
	return r;
}

static int consume(struct shop *shop)
{
	const uint64_t *buffer = shmb_region_data(shop->buffer);
	int r = 0;

	for (uint64_t item = 0; r >= 0 && item < ITEMS; item++) {
		r = shmb_semaphore_wait(shop->filled, PATIENCE_MS);
		if (r >= 0 && buffer[item % PLACES] != item * item)
			return SHMB_EPROTO;
		if (r >= 0)
			r = shmb_semaphore_post(shop->free, 1);
	}
	if (r >= 0)
		printf("%d items through %d places, each of them right\n", ITEMS, PLACES);
	return r;
}

static int be(const char *who, int (*work)(struct shop *shop))
{
	struct shop shop = { 0 };
	int r = shop_open(&shop);

	if (r >= 0)
		r = work(&shop);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", who, shmb_strerror(r));
	shop_close(&shop);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(void)
{
	/* A client does not survive a fork: fork first, connect then. */
	pid_t pid = fork();
	int status = 0, result;

	if (pid < 0) {
		perror("producer_consumer");
		return EXIT_FAILURE;
	}
	if (pid == 0)
		return be("consumer", consume);
	result = be("producer", produce);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return EXIT_FAILURE;
	return result;
}
