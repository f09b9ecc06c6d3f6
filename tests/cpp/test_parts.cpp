/* SPDX-License-Identifier: MIT */
/*
 * Windows, cursors, walks and atomics as C++ values.
 */
#include <algorithm>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "child.hpp"

TEST_CASE("F25_cpp_a_window_is_a_region_of_its_own")
{
	shmb::client client = connect();
	shmb::region_options options;

	options.capacity = 4096;
	shmb::region region = shmb::region::create(client, "cpp/window", 4096, options);
	shmb::window window = region.window(100, 200);
	shmb::window part = window.narrow(50);

	CHECK(window.size() == 200);
	CHECK(part.size() == 150);
	CHECK(part.offset() == 150);
	part.store(2, 12345);
	CHECK(region.load<int>(152) == 12345);
	CHECK(window.view<const int>(52, 1)[0] == 12345);
	try {
		part.store(147, 1);
		FAIL("beyond the end");
	} catch (const shmb::error &error) {
		CHECK(error.code() == SHMB_EBOUNDS);
		CHECK(error.particulars().offset == 147);
		CHECK(error.particulars().size == 150);
	}
	CHECK(code_of([&] { (void)region.window(4000, 97); }) == SHMB_EBOUNDS);
	CHECK(code_of([&] { (void)window.narrow(1, 200); }) == SHMB_EBOUNDS);

	shmb::window moved = std::move(part);
	CHECK(moved.load<int>(2) == 12345);
	region.resize(200);
	CHECK(window.size() == 100);
	CHECK(code_of([&] { (void)window.load<int>(100); }) == SHMB_EBOUNDS);
}

TEST_CASE("F23_cpp_a_cursor_reads_writes_and_seeks")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/cursor", 10);
	shmb::cursor cursor(region);
	char text[8] = {};

	CHECK(cursor.write(std::string_view("0123456")) == 7);
	CHECK(cursor.tell() == 7);
	CHECK(cursor.write(std::string_view("789abc")) == 3);
	CHECK(code_of([&] { (void)cursor.write(std::string_view("x")); }) == SHMB_EBOUNDS);
	CHECK(cursor.seek(-4, SHMB_SEEK_END) == 6);
	CHECK(cursor.read(text) == 4);
	CHECK(std::string(text, 4) == "6789");
	CHECK(cursor.read(text) == 0);
	CHECK(code_of([&] { (void)cursor.seek(-1); }) == SHMB_EINVAL);
	CHECK(cursor.tell() == 10);

	shmb::window window = region.window(2, 3);
	shmb::cursor within(window);
	CHECK(within.read(text) == 3);
	CHECK(std::string(text, 3) == "234");
}

TEST_CASE("F23_cpp_a_cursor_moves_and_an_empty_one_says_closed")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/moving", 10);
	shmb::cursor first(region), none;
	shmb::window window = region.window(0);
	char text[4] = {};

	CHECK(first.write(std::string_view("0123456")) == 7);
	shmb::cursor second = std::move(first);
	CHECK(second.tell() == 7);
	second.seek(4);
	first = std::move(second);
	CHECK(first.read(text) == 4);
	CHECK(std::string(text, 3) == "456");
	for (shmb::cursor *empty : { &second, &none }) {
		CHECK(empty->tell() == 0);
		CHECK(code_of([&] { (void)empty->read(text); }) == SHMB_ECLOSED);
		CHECK(code_of([&] { (void)empty->write(text); }) == SHMB_ECLOSED);
		CHECK(code_of([&] { (void)empty->seek(0); }) == SHMB_ECLOSED);
	}
	shmb::window moved = std::move(window);
	CHECK(window.size() == 0);
	CHECK(code_of([&] { (void)window.load<char>(0); }) == SHMB_ECLOSED);
	CHECK(code_of([&] { (void)window.narrow(0); }) == SHMB_ECLOSED);
	CHECK(code_of([&] { shmb::cursor within(window); }) == SHMB_ECLOSED);
	CHECK(moved.size() == 10);
	shmb::window &same = moved;
	moved = std::move(same); /* to itself: as it was */
	CHECK(moved.size() == 10);
}

TEST_CASE("F26_cpp_a_walk_is_a_range_for")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/walk", 10000);
	std::vector<std::size_t> lengths;
	unsigned char next = 0;

	for (shmb::span<std::byte> chunk : region.walk<std::byte>(4096)) {
		std::fill(chunk.begin(), chunk.end(), std::byte{ ++next });
		lengths.push_back(chunk.size());
	}
	CHECK(lengths == std::vector<std::size_t>{ 4096, 4096, 1808 });

	auto walk = region.walk(1000, 4000, 2500);
	std::vector<std::uint64_t> offsets;
	std::size_t ones = 0;
	for (auto chunk : walk) {
		ones += static_cast<std::size_t>(
			std::count(chunk.begin(), chunk.end(), std::byte{ 1 }));
		offsets.push_back(walk.offset());
	}
	walk.close();
	CHECK(ones == 96);
	CHECK(offsets == std::vector<std::uint64_t>{ 4000, 5000, 6000 });
	CHECK(code_of([&] { (void)region.walk(10, 10001); }) == SHMB_EBOUNDS);
	shmb::region reader = shmb::region::open(client, "cpp/walk");
	CHECK(code_of([&] { (void)reader.walk<std::byte>(10); }) == SHMB_EMODE);
}

TEST_CASE("F27_cpp_atomics_count_exactly")
{
	enum { TIMES = 20000 };
	child other([](shmb::client &client, const line &parent) {
		parent.hear();
		shmb::region region =
			shmb::region::open(client, "cpp/atomics", SHMB_READ | SHMB_WRITE);
		auto words = region.atomics<std::uint64_t>(8, 2);

		parent.say();
		for (int i = 0; i < TIMES; i++)
			words[1].fetch_add(1);
	});
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/atomics", 64);
	auto words = region.atomics<std::uint64_t>(8, 2);

	other.say();
	other.hear();
	for (int i = 0; i < TIMES; i++)
		words[1].fetch_add(1);
	CHECK(other.end());
	CHECK(words.size() == 2);
	CHECK(words[0].load() == 0);
	CHECK(words[1].load() == 2 * TIMES);
	CHECK(region.load<std::uint64_t>(16) == 2 * TIMES);

	auto narrow = region.atomics<std::int32_t>(4);
	auto &&word = narrow[0];
	word.store(-1);
	CHECK(region.load<std::int32_t>(4) == -1);
	try {
		(void)region.atomics<std::uint64_t>(12);
		FAIL("misaligned atomics");
	} catch (const shmb::error &error) {
		CHECK(error.code() == SHMB_EALIGN);
		CHECK(error.particulars().alignment == 8);
	}
	CHECK(code_of([&] { (void)region.atomics<std::uint32_t>(60, 2); }) == SHMB_EBOUNDS);
}

namespace
{

/* May it be unmapped while @hold is there, and is it free afterwards? Each time exactly one of them
 * is held. */
template <class Hold> void check_hold(shmb::client &client, Hold hold)
{
	shmb::region_options options;
	int fd = -1;

	options.flags = SHMB_KEEP_FD;
	shmb::region region = shmb::region::create(client, 4096, options);
	{
		auto held = hold(region);

		CHECK(shmb_region_unmap(region.get(), &fd) == SHMB_EBUSY);
		auto second = hold(region);
		auto moved = std::move(held);
		CHECK(shmb_region_unmap(region.get(), &fd) == SHMB_EBUSY);
		moved = std::move(second);
	}
	CHECK(shmb_region_unmap(region.get(), &fd) == 0);
	::close(fd);
}

} // namespace

TEST_CASE("F03_cpp_what_is_held_keeps_the_mapping_and_lets_go_of_it_once")
{
	shmb::client client = connect();
	shmb::region_options options;
	int fd = -1;

	check_hold(client, [](shmb::region &region) { return region.view<int>(); });
	check_hold(client, [](shmb::region &region) { return region.window(0); });
	check_hold(client, [](shmb::region &region) { return region.window(0).narrow(1); });
	check_hold(client, [](shmb::region &region) { return region.atomics<std::uint32_t>(0); });
	check_hold(client, [](shmb::region &region) { return region.atomics<std::uint64_t>(0); });
	check_hold(client, [](shmb::region &region) { return shmb::cursor(region); });

	options.flags = SHMB_KEEP_FD;
	shmb::region region = shmb::region::create(client, 4096, options);
	{
		shmb::cursor cursor(region);

		CHECK(shmb_region_unmap(region.get(), &fd) == SHMB_EBUSY);
	}
	{
		shmb::walk<std::byte> walk = region.walk<std::byte>(100);

		CHECK(shmb_region_unmap(region.get(), &fd) == SHMB_EBUSY);
		walk.close();
	}
	CHECK(shmb_region_unmap(region.get(), &fd) == 0);
	::close(fd);
}
