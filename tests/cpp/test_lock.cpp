/* SPDX-License-Identifier: MIT */
/*
 * Guards, named locks, permits: given back at the end of the block, and the death of an owner is
 * heard of.
 */
#include <catch2/catch.hpp>

#include "child.hpp"

namespace
{

using std::chrono::milliseconds;
constexpr milliseconds patience{ 10000 };

bool is_free(const shmb::region &region)
{
	return code_of([&] { shmb::exclusive_guard guard(region, milliseconds(0)); }) == 0;
}

/* Another process that dies in the middle of a change, lock in hand. */
void die_writing(const char *name, bool whole)
{
	child other([=](shmb::client &client, const line &parent) {
		shmb::region region = shmb::region::open(client, name, SHMB_READ | SHMB_WRITE);
		shmb::exclusive_guard guard(region);

		region.store(0, 1);
		if (whole)
			region.store(4, 1);
		parent.say();
		parent.hear();
	});

	other.hear();
	other.kill();
}

} // namespace

TEST_CASE("F37_cpp_guards_exclude_and_let_go")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/lock", 64);
	shmb::region other = shmb::region::open(client, "cpp/lock", SHMB_READ | SHMB_WRITE);

	{
		shmb::exclusive_guard guard(region);

		CHECK(guard.held());
		CHECK(code_of([&] { shmb::shared_guard none(other, milliseconds(1)); }) ==
		      SHMB_ETIMEDOUT);
		CHECK(code_of([&] { shmb::exclusive_guard none(other, milliseconds(0)); }) ==
		      SHMB_ETIMEDOUT);
		CHECK(code_of([&] { shmb::exclusive_guard twice(region); }) == SHMB_EDEADLK);
	}
	{
		shmb::shared_guard one(region), two(other);

		CHECK(!is_free(region));
		shmb::shared_guard moved(std::move(one));
		CHECK(!one.held());
		moved.unlock();
		CHECK(code_of([&] { moved.unlock(); }) == SHMB_EINVAL);
		two.unlock();
		CHECK(is_free(region));
	}
	CHECK(is_free(other));
}

TEST_CASE("F37_cpp_a_guard_lets_go_when_something_is_thrown")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/thrown", 64);
	shmb::region other = shmb::region::open(client, "cpp/thrown", SHMB_READ | SHMB_WRITE);

	CHECK_THROWS_AS(
		[&] {
			shmb::exclusive_guard guard(region);
			throw std::runtime_error("in the middle");
		}(),
		std::runtime_error);
	CHECK(is_free(other));
}

TEST_CASE("F37_cpp_the_death_of_an_owner_is_not_silent")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/dead", 64);
	int repairs = 0;

	SECTION("a guard without a repair throws, and the next one is told again")
	{
		die_writing("cpp/dead", false);
		for (int i = 0; i < 3; i++)
			CHECK(code_of([&] { shmb::exclusive_guard guard(region, patience); }) ==
			      SHMB_EOWNERDEAD);
		CHECK(code_of([&] { shmb::shared_guard guard(region, patience); }) ==
		      SHMB_EOWNERDEAD);
		{
			shmb::exclusive_guard guard(
				region, [&] { repairs++; }, patience);

			CHECK(guard.held());
		}
		CHECK(repairs == 1);
		shmb::shared_guard guard(region, patience);
	}
	SECTION("a repair is called with the lock held, and only when it has to be")
	{
		shmb::region other = shmb::region::open(client, "cpp/dead", SHMB_READ | SHMB_WRITE);
		auto repair = [&] {
			CHECK(!is_free(other));
			region.store(4, region.load<int>(0));
			repairs++;
		};

		{
			shmb::exclusive_guard guard(region, repair);
		}
		CHECK(repairs == 0);
		die_writing("cpp/dead", false);
		{
			shmb::exclusive_guard guard(region, repair, patience);
		}
		CHECK(repairs == 1);
		CHECK(region.load<int>(4) == 1);
		shmb::exclusive_guard guard(region, repair);
		CHECK(repairs == 1);
	}
	SECTION("a repair that throws settles nothing")
	{
		die_writing("cpp/dead", true);
		CHECK_THROWS_AS(
			shmb::exclusive_guard(
				region, [] { throw std::runtime_error("cannot"); }, patience),
			std::runtime_error);
		CHECK(code_of([&] { shmb::exclusive_guard guard(region, patience); }) ==
		      SHMB_EOWNERDEAD);
	}
}

TEST_CASE("F37_cpp_named_locks")
{
	shmb::client client = connect();
	shmb::named_lock lock = shmb::named_lock::create(client, "cpp/named");
	shmb::named_lock same = shmb::named_lock::open_or_create(client, "cpp/named");

	CHECK(code_of([&] { (void)shmb::named_lock::create(client, "cpp/named"); }) == SHMB_EEXIST);
	{
		shmb::exclusive_guard guard(lock);

		CHECK(code_of([&] { shmb::shared_guard none(same, milliseconds(0)); }) ==
		      SHMB_ETIMEDOUT);
	}
	shmb::shared_guard one(lock), two(same);
	CHECK(code_of([&] {
		      shmb::named_lock third = shmb::named_lock::open(client, "cpp/named");
		      shmb::exclusive_guard none(
			      third, [] {}, milliseconds(0));
	      }) == SHMB_ETIMEDOUT);
}

TEST_CASE("F37_cpp_counting_semaphores")
{
	shmb::client client = connect();
	shmb::semaphore semaphore = shmb::semaphore::create(client, "cpp/count");

	CHECK(!semaphore.wait(milliseconds(0)));
	semaphore.post(2);
	CHECK(semaphore.value() == 2);
	CHECK(semaphore.wait());
	CHECK(shmb::semaphore::open(client, "cpp/count").wait(milliseconds(0)));
	CHECK(!semaphore.wait(milliseconds(1)));
	CHECK(code_of([&] { shmb::permit none(semaphore); }) == SHMB_EKIND);
}

TEST_CASE("F37_cpp_permits_come_back")
{
	shmb::client client = connect();
	shmb::semaphore_options options;

	options.kind = SHMB_OWNED;
	options.maximum = 2;
	shmb::semaphore pool = shmb::semaphore::create(client, "cpp/pool", options);
	shmb::client other = connect();
	shmb::semaphore theirs = shmb::semaphore::open(other, "cpp/pool");

	{
		shmb::permit one(pool), two(theirs);

		CHECK(one.index() != two.index());
		CHECK(code_of([&] { shmb::permit none(pool, milliseconds(0)); }) == SHMB_ETIMEDOUT);
		shmb::permit moved(std::move(one));
		moved.give();
		CHECK(pool.value() == 1);
	}
	CHECK(pool.value() == 2);
	{
		shmb::permit adopted(theirs, shmb::permit(pool).hand_on());

		CHECK(pool.value() == 1);
	}
	CHECK(pool.value() == 2);
}
