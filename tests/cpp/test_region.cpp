/* SPDX-License-Identifier: MIT */
/*
 * Clients, regions and views as C++ values: who owns what, what is refused, and what errors say.
 */
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include <catch2/catch.hpp>

#include "child.hpp"

namespace
{

struct sample {
	std::uint32_t number;
	double value;
};

struct with_a_string {
	std::string text;
};

template <class T, class = void> struct has_view : std::false_type {
};
template <class T>
struct has_view<T, std::void_t<decltype(std::declval<const shmb::region &>().view<T>(0, 1))>>
    : std::true_type {
};

static_assert(has_view<sample>::value && has_view<const sample>::value);
static_assert(!has_view<with_a_string>::value && !has_view<std::vector<int>>::value);
static_assert(!has_view<std::unique_ptr<int>>::value && !has_view<int &>::value);

template <class T> inline constexpr bool moves_only = std::is_nothrow_move_constructible_v<T> &&
						      !std::is_copy_constructible_v<T> &&
						      !std::is_copy_assignable_v<T>;

static_assert(moves_only<shmb::client> && moves_only<shmb::region> && moves_only<shmb::view<int>>);
static_assert(moves_only<shmb::window> && moves_only<shmb::named_lock>);
static_assert(moves_only<shmb::cursor> && !std::is_move_constructible_v<shmb::walk<std::byte>>);
static_assert(moves_only<shmb::semaphore> && moves_only<shmb::permit>);
static_assert(moves_only<shmb::atomics<std::uint32_t>>);
static_assert(moves_only<shmb::exclusive_guard<shmb_region>>);
static_assert(std::is_nothrow_copy_constructible_v<shmb::error>);

} // namespace

TEST_CASE("F01_cpp_create_open_and_open_or_create")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/one", 4096);
	bool created = true;

	CHECK(region);
	CHECK(std::string(region.name()) == "cpp/one");
	CHECK(code_of([&] { (void)shmb::region::create(client, "cpp/one", 1); }) == SHMB_EEXIST);
	CHECK(code_of([&] { (void)shmb::region::open(client, "cpp/none"); }) == SHMB_ENOENT);
	CHECK(shmb::region::open_or_create(client, "cpp/one", 9, {}, &created).size() == 4096);
	CHECK(!created);
	CHECK(shmb::region::open_or_create(client, "cpp/two", 9, {}, &created).size() == 9);
	CHECK(created);
	CHECK(code_of([&] { (void)shmb::region::create(client, "cpp/three", 0); }) == SHMB_EINVAL);
}

TEST_CASE("F11_cpp_what_a_region_knows_of_itself")
{
	shmb::client client = connect();
	shmb::region_options options;

	options.capacity = 65536;
	options.mode = 0640;
	shmb::region region = shmb::region::create(client, "cpp/asked", 5000, options);
	shmb::region reader = shmb::region::open(client, "cpp/asked");

	CHECK(region.size() == 5000);
	CHECK(region.capacity() == 65536);
	CHECK(region.access() == (SHMB_READ | SHMB_WRITE | SHMB_LOCK));
	CHECK(reader.access() == SHMB_READ);
	CHECK(reader.info().mode == 0640);
	CHECK(reader.info().attachments == 2);
}

TEST_CASE("F12_cpp_an_error_has_a_code_a_sentence_and_particulars")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/error", 100);

	try {
		(void)region.load<std::uint64_t>(96);
		FAIL("nothing was thrown");
	} catch (const std::exception &thrown) {
		const auto &error = dynamic_cast<const shmb::error &>(thrown);

		CHECK(error.code() == SHMB_EBOUNDS);
		CHECK(std::string(error.name()) == "out-of-bounds");
		CHECK(error.particulars().offset == 96);
		CHECK(error.particulars().length == 8);
		CHECK(error.particulars().size == 100);
		CHECK(std::string(error.what()).find("96") != std::string::npos);
	}
}

TEST_CASE("F20_cpp_values_arrays_and_containers_at_any_offset")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/values", 1000);
	std::vector<std::uint16_t> numbers(50), back(50);
	int array[4] = { 1, 2, 3, 4 };
	std::array<int, 4> other{};

	region.store(3, sample{ 7, 0.5 }); /* aligned to nothing */
	CHECK(region.load<sample>(3).number == 7);
	CHECK(region.load<sample>(3).value == 0.5);
	std::iota(numbers.begin(), numbers.end(), std::uint16_t{ 100 });
	region.write(101, numbers);
	region.read(101, back);
	CHECK(back == numbers);
	region.write(1000 - sizeof(array), array);
	region.read(1000 - sizeof(array), shmb::span<int>(other));
	CHECK(std::equal(other.begin(), other.end(), array));
	CHECK(code_of([&] { region.write(1000 - sizeof(array) + 1, array); }) == SHMB_EBOUNDS);
	CHECK(code_of([&] { region.store(997, 1); }) == SHMB_EBOUNDS);
	region.store(0, 5, SHMB_LOCKED);
	CHECK(region.load<int>(0, SHMB_LOCKED) == 5);
}

TEST_CASE("F05_cpp_read_only_stays_read_only")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/modes", 100);
	shmb::region reader = shmb::region::open(client, "cpp/modes");

	CHECK(code_of([&] { reader.store(0, 1); }) == SHMB_EMODE);
	CHECK(code_of([&] { (void)reader.view<int>(0, 1); }) == SHMB_EMODE);
	CHECK(code_of([&] { reader.publish(); }) == SHMB_EMODE);
	CHECK(reader.view<const int>(0, 1)[0] == 0);
}

TEST_CASE("F24_cpp_views_are_typed_checked_and_aligned")
{
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/views", 4096);

	{
		shmb::view<std::uint64_t> words = region.view<std::uint64_t>(8, 16);

		CHECK(words.size() == 16);
		std::fill(words.begin(), words.end(), 42U);
		CHECK(words.span()[15] == 42);
	}
	CHECK(region.load<std::uint64_t>(8 + 15 * 8) == 42);
	CHECK(region.view<const char>().size() == 4096);
	CHECK(region.view<const sample>(16).size() == (4096 - 16) / sizeof(sample));

	try {
		(void)region.view<const std::uint64_t>(12, 1);
		FAIL("a misaligned view");
	} catch (const shmb::error &error) {
		CHECK(error.code() == SHMB_EALIGN);
		CHECK(error.particulars().alignment == 8);
	}
	CHECK(code_of([&] { (void)region.view<int>(4092, 2); }) == SHMB_EBOUNDS);
	CHECK(code_of([&] { (void)region.view<sample>(4096 - 8); }) == SHMB_EBOUNDS);
	CHECK(code_of([&] { (void)region.view<int>(0, static_cast<std::size_t>(-1) / 2); }) ==
	      SHMB_EBOUNDS);
	/* So many that their bytes are a few again. */
	CHECK(code_of([&] {
		      (void)region.view<int>(0, static_cast<std::size_t>(-1) / sizeof(int) + 2);
	      }) == SHMB_EBOUNDS);

	shmb::region reader = shmb::region::open(client, "cpp/views");
	CHECK(code_of([&] { (void)reader.view<std::uint64_t>(8, 16); }) == SHMB_EMODE);
	CHECK(reader.view<const std::uint64_t>(8, 16)[15] == 42);
}

TEST_CASE("F24_cpp_a_view_moves_and_is_released_once")
{
	shmb::client client = connect();
	shmb::region_options options;

	options.flags = SHMB_KEEP_FD;
	shmb::region region = shmb::region::create(client, "cpp/moved", 4096, options);
	shmb::view<int> first = region.view<int>(0, 4);
	shmb::view<int> second = std::move(first);

	second[3] = 9;
	CHECK(first.size() == 0);
	CHECK(first.get().data == nullptr);
	first = region.view<int>(16, 1);
	second = std::move(first);
	CHECK(second.data() == static_cast<int *>(region.data()) + 4);
	first.release();
	second.release();
	second.release(); /* nothing more to release */
	CHECK(second.size() == 0);
	CHECK(region.load<int>(12) == 9);
}

TEST_CASE("F33_cpp_resize_within_the_capacity")
{
	shmb::client client = connect();
	shmb::region_options options;

	options.capacity = 1 << 20;
	shmb::region region = shmb::region::create(client, "cpp/resize", 1 << 20, options);
	shmb::region reader = shmb::region::open(client, "cpp/resize");
	shmb::view<char> view = region.view<char>();

	std::fill(view.begin(), view.end(), 'x');
	region.resize(5000);
	CHECK(reader.size() == 5000);
	CHECK(view[6000] == 0);
	CHECK(view[4999] == 'x');
	CHECK(code_of([&] { (void)reader.load<char>(5000); }) == SHMB_EBOUNDS);
	region.resize(1 << 20);
	CHECK(reader.load<char>(6000) == 0);
}

TEST_CASE("F36_cpp_regions_move_close_and_outlive_their_client")
{
	shmb::region kept;

	CHECK(!kept);
	{
		shmb::client client = connect();
		shmb::region region = shmb::region::create(client, "cpp/kept", 64);

		region.store(0, 3);
		kept = std::move(region);
		CHECK(!region);
	}
	CHECK(kept.load<int>(0) == 3);
	kept.close();
	CHECK(code_of([&] { (void)kept.load<int>(0); }) == SHMB_ECLOSED);
	CHECK(code_of([&] { kept.close(); }) == SHMB_ECLOSED);
	CHECK(kept.size() == 0);
}

TEST_CASE("F38_cpp_publish_and_wait_between_processes")
{
	child other([](shmb::client &client, const line &parent) {
		parent.hear();
		shmb::region region = shmb::region::open(client, "cpp/told");
		std::uint64_t seen = region.sequence();

		parent.say();
		std::optional<shmb_publication> news = region.wait(seen, std::chrono::seconds(10));
		EXPECT(news && news->sequence == seen + 1);
		parent.hear(); /* until a publisher is through with it, the range can be all */
		news = region.wait(seen, std::chrono::milliseconds(0));
		EXPECT(news && news->offset == 8 && news->length == 4);
		EXPECT(region.load<int>(8) == 77);
		EXPECT(!region.wait(news->sequence, std::chrono::milliseconds(0)));
	});
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "cpp/told", 4096);

	other.say();
	other.hear();
	region.store(8, 77);
	region.publish(8, 4);
	other.say();
	CHECK(other.end());
}

TEST_CASE("F12_cpp_no_broker_is_an_error")
{
	CHECK(code_of([] { shmb::client client("/nowhere/broker.sock"); }) == SHMB_ECONNREFUSED);
	CHECK(code_of([] { shmb::client client("nonsense"); }) == SHMB_EINVAL);
	shmb::client none;
	CHECK(!none);
}
