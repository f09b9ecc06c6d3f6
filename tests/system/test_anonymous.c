/* SPDX-License-Identifier: MIT */
/*
 * Regions without a name, and the tickets that give them, or any region, to others.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

/* ---- Regions without a name ---- */

static int count(const struct shmb_region_info *info, void *userdata)
{
	(void)info;
	++*(unsigned *)userdata;
	return 0;
}

CASE(F04_an_anonymous_region_has_no_place_in_the_namespace, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region_info info = { .struct_size = sizeof(info) };
	struct shmb_region *one, *other, *none = NULL;
	unsigned n = 0;
	char text[8];

	one = create(client, NULL, 4096, NULL);
	other = create(client, NULL, 4096, NULL); /* no name is not one name */
	CHECK_OK(shmb_region_write(one, 0, "one", 4, 0));
	CHECK_OK(shmb_region_write(other, 0, "other", 6, 0));
	CHECK_OK(shmb_region_read(one, 0, text, 4, 0));
	CHECK_STRING(text, "one");
	CHECK_STRING(shmb_region_name(one), "");
	CHECK_OK(shmb_region_info(one, &info));
	CHECK_STRING(info.name, "");
	CHECK_INT(info.size, 4096);
	CHECK_INT(info.removed, 0);
	CHECK_OK(shmb_region_list(client, NULL, count, &n));
	CHECK_INT(n, 0);
	CHECK_INT(broker_stat(broker, "regions"), 2);
	options.lifetime = SHMB_PERSISTENT; /* nobody would find it again */
	CHECK_CODE(shmb_region_create(client, NULL, 4096, &options, &none), SHMB_EINVAL);
	CHECK_OK(shmb_region_resize(one, 100));
	CHECK_OK(shmb_region_publish(one, 0, 0));
	CHECK_OK(shmb_region_lock(one, SHMB_EXCLUSIVE, 0));
	CHECK_OK(shmb_region_unlock(one));
	shmb_region_free(one);
	UNTIL(broker, broker_stat(broker, "regions") == 1);
	shmb_region_free(other);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

static void leave_one(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);

	(void)argument;
	keep_reachable(create(client, NULL, 1 << 20, NULL));
	say(1);
	hear();
}

CASE(F04_an_anonymous_region_ends_with_its_process, PRIVATE)
{
	struct actor actor = actor_start(broker, &SELF, leave_one, NULL);

	CHECK_INT(actor_hear(&actor), 1);
	CHECK_INT(broker_stat(broker, "regions"), 1);
	actor_kill(&actor);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

CASE(F04_every_backing_can_be_anonymous, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region_options options = SHMB_REGION_OPTIONS_INIT;
	struct shmb_region *region;

	options.backing = SHMB_BACKING_MEMFD;
	region = create(client, NULL, 4096, &options);
	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_MEMFD);
	shmb_region_free(region);
	options.backing = SHMB_BACKING_SHM;
	region = create(client, NULL, 4096, &options);
	CHECK_INT(shmb_region_backing(region), SHMB_BACKING_SHM);
	shmb_region_free(region);
	shmb_client_free(client);
}

/* ---- Tickets ---- */

/* Through the channel of numbers. */
static void say_ticket(struct actor *actor, const struct shmb_ticket *ticket)
{
	uint64_t words[5] = { 0 };

	memcpy(words, ticket->text, sizeof(ticket->text));
	for (size_t i = 0; i < 5; i++)
		actor_say(actor, words[i]);
}

static void hear_ticket(struct shmb_ticket *ticket)
{
	uint64_t words[5];

	for (size_t i = 0; i < 5; i++)
		words[i] = hear();
	memcpy(ticket->text, words, sizeof(ticket->text));
}

/* Hears tickets and the access to ask for, says what came of it; access 0 ends it. */
static void redeem_as_told(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region;
	struct shmb_ticket ticket;
	unsigned access;
	int result;

	(void)argument;
	while ((access = (unsigned)hear()) != 0) {
		hear_ticket(&ticket);
		result = shmb_region_redeem(client, ticket.text, access, NULL, &region);
		say((uint64_t)(int64_t)result);
		if (result < 0)
			continue;
		CHECK_INT(shmb_region_access(region),
			  access & SHMB_WRITE ? access | SHMB_LOCK : access);
		CHECK_STRING(shmb_region_name(region), "");
		/* What it is for: the same bytes. */
		if (access & SHMB_WRITE)
			CHECK_OK(shmb_region_write(region, 8, "back", 5, 0));
		else
			CHECK_CODE(shmb_region_write(region, 8, "back", 5, 0), SHMB_EMODE);
		say(*(uint64_t *)shmb_region_data(region));
		hear();
		shmb_region_free(region);
		say(0);
	}
	shmb_client_free(client);
}

static int ask_redeem(struct actor *actor, const struct shmb_ticket *ticket, unsigned access)
{
	actor_say(actor, access);
	say_ticket(actor, ticket);
	return (int)(int64_t)actor_hear(actor);
}

/* The redeemed handle is given back. */
static void end_redeemed(struct actor *actor)
{
	actor_say(actor, 0);
	CHECK_INT(actor_hear(actor), 0);
}

static struct shmb_ticket ticket_of(struct shmb_region *region, unsigned access)
{
	struct shmb_ticket ticket;

	CHECK_OK(shmb_region_ticket(region, access, &ticket));
	CHECK_INT(strlen(ticket.text), 32);
	CHECK_INT(strspn(ticket.text, "0123456789abcdef"), 32);
	return ticket;
}

static void hands_over(struct broker *broker, const struct identity *to)
{
	struct actor actor = actor_start(broker, to, redeem_as_told, NULL);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, NULL, 4096, NULL);
	struct shmb_ticket ticket = ticket_of(region, SHMB_READ | SHMB_WRITE);
	char text[5];

	CHECK_OK(shmb_region_write_u64(region, 0, 4711));
	CHECK_OK(ask_redeem(&actor, &ticket, SHMB_READ | SHMB_WRITE));
	CHECK_INT(actor_hear(&actor), 4711);
	CHECK_OK(shmb_region_read(region, 8, text, 5, 0));
	CHECK_STRING(text, "back");
	end_redeemed(&actor);
	CHECK_CODE(ask_redeem(&actor, &ticket, SHMB_READ), SHMB_ENOENT); /* once */
	actor_say(&actor, 0);
	actor_end(&actor);
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(F04_a_ticket_gives_an_anonymous_region_to_another_process_once, PRIVATE)
{
	hands_over(broker, &SELF);
}

CASE(F04_a_ticket_gives_it_to_another_user, SYSTEM)
{
	hands_over(broker, &CAROL);
}

CASE(F04_who_has_redeemed_a_ticket_keeps_the_region, PRIVATE)
{
	struct actor actor = actor_start(broker, &SELF, redeem_as_told, NULL);
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, NULL, 4096, NULL);
	struct shmb_ticket ticket = ticket_of(region, SHMB_READ);

	CHECK_OK(ask_redeem(&actor, &ticket, SHMB_READ));
	actor_hear(&actor);
	shmb_region_free(region);
	shmb_client_free(client);
	CHECK_INT(broker_stat(broker, "regions"), 1);
	end_redeemed(&actor);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	actor_say(&actor, 0);
	actor_end(&actor);
}

CASE(F04_an_unused_ticket_ends_with_the_handle_it_is_of, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "named", 4096, NULL);
	struct shmb_region *second = open_region(client, "named", SHMB_READ), *redeemed;
	struct shmb_ticket of_first = ticket_of(region, SHMB_READ);
	struct shmb_ticket of_second = ticket_of(second, SHMB_READ);

	CHECK(strcmp(of_first.text, of_second.text) != 0);
	shmb_region_free(second);
	CHECK_CODE(shmb_region_redeem(client, of_second.text, SHMB_READ, NULL, &redeemed),
		   SHMB_ENOENT);
	CHECK_OK(shmb_region_redeem(client, of_first.text, SHMB_READ, NULL, &redeemed));
	shmb_region_free(redeemed);
	shmb_region_free(region);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

CASE(F04_a_ticket_is_good_for_no_more_than_it_says, PRIVATE)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, NULL, 4096, NULL), *redeemed;
	struct shmb_ticket ticket = ticket_of(region, SHMB_READ);
	char longer[sizeof(ticket.text) + 1];

	CHECK_CODE(shmb_region_redeem(client, ticket.text, SHMB_READ | SHMB_WRITE, NULL, &redeemed),
		   SHMB_EACCES);
	/* Which has not used it up. */
	CHECK_OK(shmb_region_redeem(client, ticket.text, SHMB_READ, NULL, &redeemed));
	CHECK_CODE(shmb_region_ticket(redeemed, SHMB_READ | SHMB_WRITE, &ticket), SHMB_EMODE);
	ticket = ticket_of(redeemed, SHMB_READ); /* passed on */
	shmb_region_free(redeemed);
	ticket = ticket_of(region, SHMB_READ | SHMB_LOCK);
	CHECK_OK(shmb_region_redeem(client, ticket.text, SHMB_READ | SHMB_LOCK, NULL, &redeemed));
	CHECK_OK(shmb_region_lock(redeemed, SHMB_SHARED, 0));
	CHECK_OK(shmb_region_unlock(redeemed));
	shmb_region_free(redeemed);
	CHECK_CODE(shmb_region_redeem(client, "00000000000000000000000000000000", SHMB_READ, NULL,
				      &redeemed),
		   SHMB_ENOENT);
	ticket = ticket_of(region, SHMB_READ);
	snprintf(longer, sizeof(longer), "%s0", ticket.text);
	CHECK_CODE(shmb_region_redeem(client, longer, SHMB_READ, NULL, &redeemed), SHMB_EINVAL);
	longer[31] = '\0';
	CHECK_CODE(shmb_region_redeem(client, longer, SHMB_READ, NULL, &redeemed), SHMB_EINVAL);
	shmb_region_free(region);
	shmb_client_free(client);
}

static void give_away(struct broker *broker, void *argument)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, "~1001/mine", 4096, NULL);
	struct shmb_ticket ticket = ticket_of(region, SHMB_READ);
	uint64_t words[5] = { 0 };

	(void)argument;
	CHECK_OK(shmb_region_write_u64(region, 0, 42));
	memcpy(words, ticket.text, sizeof(ticket.text));
	for (size_t i = 0; i < 5; i++)
		say(words[i]);
	hear();
	shmb_region_free(region);
	shmb_client_free(client);
}

/* The mode refuses everybody else, and the ticket does not change that. */
CASE(F04_a_ticket_opens_a_region_whose_mode_refuses, SYSTEM)
{
	struct actor alice = actor_start(broker, &ALICE, give_away, NULL);
	struct actor carol = actor_start(broker, &CAROL, redeem_as_told, NULL);
	struct shmb_ticket ticket;
	uint64_t words[5];

	for (size_t i = 0; i < 5; i++)
		words[i] = actor_hear(&alice);
	memcpy(ticket.text, words, sizeof(ticket.text));
	CHECK_CODE(ask_redeem(&carol, &ticket, SHMB_READ | SHMB_WRITE), SHMB_EACCES);
	CHECK_OK(ask_redeem(&carol, &ticket, SHMB_READ));
	CHECK_INT(actor_hear(&carol), 42);
	end_redeemed(&carol);
	CHECK_CODE(ask_redeem(&carol, &ticket, SHMB_READ), SHMB_ENOENT);
	actor_say(&carol, 0);
	actor_end(&carol);
	actor_say(&alice, 0);
	actor_end(&alice);
}

/* Whatever is said to the broker by hand. */
CASE(F04_who_may_read_gives_no_ticket_for_writing, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	struct wire_region_attached reader;
	struct wire_region_ticket_params ask = { .access = SHMB_READ | SHMB_WRITE };
	struct wire_region_ticket_result ticket;
	int fds[2], none[2];

	raw_make(raw, "r", SHMB_ATTACHED);
	CHECK_OK(raw_open(raw, "r", SHMB_READ, &reader, fds));
	ask.handle = reader.handle;
	CHECK_CODE(raw_call(raw, WIRE_REGION_TICKET, &ask, &ticket), SHMB_EMODE);
	ask.access = SHMB_READ | SHMB_LOCK;
	CHECK_CODE(raw_call(raw, WIRE_REGION_TICKET, &ask, &ticket), SHMB_EMODE);
	ask.access = SHMB_READ;
	CHECK_OK(raw_call(raw, WIRE_REGION_TICKET, &ask, &ticket));
	/* Nor does anything stay that nobody could find again. */
	CHECK_CODE(raw_create(raw, "", 4096, 0700, SHMB_PERSISTENT, &reader, none), SHMB_EINVAL);
	CHECK_CODE(raw_create(raw, "", 4096, 0700, SHMB_SESSION, &reader, none), SHMB_EINVAL);
	close(fds[0]);
	close(fds[1]);
	raw_free(raw);
}

/* ---- Restarts ---- */

static void survives(struct broker *broker)
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, NULL, 4096, NULL), *redeemed;
	struct shmb_ticket before = ticket_of(region, SHMB_READ | SHMB_WRITE);
	struct shmb_ticket used = ticket_of(region, SHMB_READ), after;
	uint64_t value;

	CHECK_OK(shmb_region_redeem(client, used.text, SHMB_READ, NULL, &redeemed));
	shmb_region_free(redeemed);
	CHECK_OK(shmb_region_write_u64(region, 0, 99));
	broker_crash(broker);
	broker_restart(broker);
	CHECK_INT(broker_stat(broker, "regions"), 1);
	CHECK_CODE(shmb_region_redeem(client, used.text, SHMB_READ, NULL, &redeemed), SHMB_ENOENT);
	CHECK_OK(shmb_region_redeem(client, before.text, SHMB_READ | SHMB_WRITE, NULL, &redeemed));
	CHECK_OK(shmb_region_read_u64(redeemed, 0, &value));
	CHECK_INT(value, 99);
	CHECK_OK(shmb_region_write_u64(redeemed, 0, 100));
	CHECK_OK(shmb_region_read_u64(region, 0, &value));
	CHECK_INT(value, 100);
	shmb_region_free(redeemed);
	after = ticket_of(region, SHMB_READ);
	CHECK(strcmp(after.text, before.text) != 0);
	CHECK_OK(shmb_region_redeem(client, after.text, SHMB_READ, NULL, &redeemed));
	shmb_region_free(region);
	shmb_region_free(redeemed);
	shmb_client_free(client);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
	UNTIL(broker, broker_shm_count(broker) == 0);
}

CASE(F04_tickets_survive_the_broker, PRIVATE)
{
	survives(broker);
}

CASE(F04_tickets_of_stored_memory_survive_the_broker, SYSTEM, .fd_store = 64)
{
	survives(broker);
}

/* The answer was lost: it is the same one again, and nothing more is done. */
CASE(F04_a_redeemed_ticket_is_not_redeemed_twice_by_repeating, PRIVATE)
{
	struct raw *raw = raw_greet(broker);
	struct wire_region_ticket_params ask = { .handle = raw_make(raw, "", SHMB_ATTACHED),
						 .access = SHMB_READ };
	struct wire_region_ticket_result ticket;
	struct wire_region_redeem_params redeem = { .access = SHMB_READ };
	struct wire_region_attached first, again;
	char token[16];

	CHECK_OK(raw_call(raw, WIRE_REGION_TICKET, &ask, &ticket));
	memcpy(token, ticket.ticket.data, sizeof(token));
	redeem.ticket = (struct wire_bytes){ token, sizeof(token) };
	CHECK_OK(raw_call(raw, WIRE_REGION_REDEEM, &redeem, &first));
	CHECK_INT(broker_stat(broker, "attachments"), 2);
	raw = raw_survive(broker, raw, 1);
	CHECK_OK(raw_repeat(raw, raw->msgid, WIRE_REGION_REDEEM, &redeem, &again));
	CHECK_INT(again.handle, first.handle);
	CHECK_INT(broker_stat(broker, "attachments"), 2);
	CHECK_CODE(raw_call(raw, WIRE_REGION_REDEEM, &redeem, NULL), SHMB_ENOENT);
	raw_free(raw);
	UNTIL(broker, broker_stat(broker, "regions") == 0);
}

/* ---- Limits ---- */

CASE(F04_unused_tickets_are_bounded, SYSTEM, .config = "[limits]\nattachments-per-user = 20\n")
{
	struct shmb_client *client = connect_to(broker);
	struct shmb_region *region = create(client, NULL, 4096, NULL), *second;
	struct shmb_ticket ticket;
	unsigned n = 0;
	int result;

	while ((result = shmb_region_ticket(region, SHMB_READ, &ticket)) == 0)
		CHECK(++n < 100);
	CHECK_CODE(result, SHMB_EDQUOT);
	CHECK(n > 0);
	/* They are given back with the handle. */
	shmb_region_free(region);
	region = create(client, NULL, 4096, NULL);
	CHECK_OK(shmb_region_ticket(region, SHMB_READ, &ticket));
	CHECK_OK(shmb_region_redeem(client, ticket.text, SHMB_READ, NULL, &second));
	shmb_region_free(second);
	shmb_region_free(region);
	shmb_client_free(client);
}
