/* SPDX-License-Identifier: MIT */
/*
 * The seven steps and the smoke test of the C++ kit for memory-mapped files and shared memory, on
 * regions with names. What the kit does by hand for a file or a shm_open() object is one call here;
 * what each step promises is the same.
 */
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "child.hpp"

namespace
{

constexpr std::chrono::milliseconds patience{ 10000 };

/* A file of its own for each case, gone afterwards. */
class scratch_file
{
public:
	explicit scratch_file(const std::string &text)
	{
		int fd = ::mkstemp(path_.data());

		if (fd < 0 ||
		    ::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
			throw std::runtime_error("no file");
		::close(fd);
	}
	scratch_file(const scratch_file &) = delete;
	scratch_file &operator=(const scratch_file &) = delete;
	~scratch_file() { ::unlink(path_.c_str()); }

	const std::string &path() const { return path_; }

	std::string text() const
	{
		std::ifstream stream(path_, std::ios::binary);

		return { std::istreambuf_iterator<char>(stream), {} };
	}

	shmb::region_options options(unsigned access) const
	{
		shmb::region_options options;

		options.backing = SHMB_BACKING_FILE;
		options.path = path_.c_str();
		options.access = access;
		return options;
	}

	void truncate(off_t size) const
	{
		if (::truncate(path_.c_str(), size) != 0)
			throw std::runtime_error("truncate");
	}

private:
	static std::string directory()
	{
		const char *named = std::getenv("TMPDIR");

		return named != nullptr ? named : "/tmp";
	}

	std::string path_ = directory() + "/shmb-kit.XXXXXX";
};

/* A mapping by hand: what the library is compared with. */
class plain_mapping
{
public:
	plain_mapping(const std::string &path, std::size_t size)
	    : size_(size), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)),
	      data_(::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd_, 0))
	{
		if (data_ == MAP_FAILED)
			throw std::runtime_error("mmap");
	}
	plain_mapping(const plain_mapping &) = delete;
	plain_mapping &operator=(const plain_mapping &) = delete;
	~plain_mapping()
	{
		::munmap(data_, size_);
		::close(fd_);
	}

	const volatile char *data() const { return static_cast<const char *>(data_); }
	std::string text() const { return { static_cast<const char *>(data_), size_ }; }

private:
	std::size_t size_;
	int fd_;
	void *data_;
};

int mappings_of(const std::string &path)
{
	std::ifstream maps("/proc/self/maps");
	std::string entry;
	int n = 0;

	while (std::getline(maps, entry))
		n += entry.find(path) != std::string::npos;
	return n;
}

std::string pattern(std::size_t size)
{
	std::string text(size, ' ');
	unsigned value = 1;

	for (char &byte : text) {
		value = value * 1103515245 + 12345;
		byte = static_cast<char>(value >> 16);
	}
	return text;
}

struct record {
	std::uint32_t id;
	float measured;
	std::uint64_t at;
};

} // namespace

TEST_CASE("F05_kit_1_a_read_only_mapping_has_the_bytes_of_the_file")
{
	const std::string text = pattern(100001);
	scratch_file file(text);
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "kit/1", 0, file.options(SHMB_READ));
	shmb::view<const char> view = region.view<const char>();

	CHECK(region.size() == text.size());
	CHECK(std::string(view.begin(), view.end()) == text);
	CHECK(code_of([&] { region.store(0, 'x'); }) == SHMB_EMODE);
	CHECK(code_of([&] { (void)region.view<char>(); }) == SHMB_EMODE);
	CHECK(::mprotect(region.data(), 1, PROT_READ | PROT_WRITE) == -1);
	CHECK(code_of([&] { (void)shmb::region::open(client, "kit/1", SHMB_READ | SHMB_WRITE); }) !=
	      0);
	CHECK(file.text() == text);
}

TEST_CASE("F30_kit_2_what_was_flushed_is_in_a_fresh_mapping_of_another_process")
{
	scratch_file file(std::string(8192, '.'));
	child reader([&](shmb::client &client, const line &parent) {
		parent.hear();
		plain_mapping fresh(file.path(), 8192);
		EXPECT(fresh.text().substr(4090, 12) == "..written...");
		shmb::region region = shmb::region::open(client, "kit/2");
		EXPECT(region.load<char>(4092) == 'w');
	});
	shmb::client client = connect();
	shmb::region region =
		shmb::region::create(client, "kit/2", 0, file.options(SHMB_READ | SHMB_WRITE));

	region.write(4092, std::string_view("written"));
	region.flush(4092, 7);
	reader.say();
	CHECK(reader.end());
	CHECK(shmb_region_last_flush(region.get()) == 0);
}

TEST_CASE("F01_kit_3_two_processes_share_memory_by_name")
{
	child other([](shmb::client &client, const line &parent) {
		parent.hear();
		shmb::region region = shmb::region::open(client, "kit/3", SHMB_READ | SHMB_WRITE);
		EXPECT(region.load<int>(0) == 1234);
		region.store(4, 5678);
	});
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "kit/3", 4096);

	region.store(0, 1234);
	other.say();
	CHECK(other.end());
	CHECK(region.load<int>(4) == 5678);
	CHECK(shmb_region_remove(client.get(), "kit/3") == 0);
	CHECK(code_of([&] { (void)shmb::region::open(client, "kit/3"); }) == SHMB_ENOENT);
	CHECK(region.load<int>(4) == 5678); /* as after unlink(2) */
}

TEST_CASE("F24_kit_4_typed_spans_that_are_aligned_and_trivially_copyable")
{
	/* What is not trivially copyable does not compile: refused/string_in_a_view.cpp. */
	static_assert(shmb::is_shareable_v<record> && !shmb::is_shareable_v<std::string>);
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "kit/4", 100 * sizeof(record));

	{
		shmb::view<record> view = region.view<record>();
		shmb::span<record> records = view.span();

		CHECK(records.size() == 100);
		for (std::size_t i = 0; i < records.size(); i++)
			records[i] = { static_cast<std::uint32_t>(i), 0.5F, i * i };
	}
	CHECK(region.load<record>(99 * sizeof(record)).at == 99 * 99);
	for (std::uint64_t offset = 1; offset < alignof(record); offset++)
		CHECK(code_of([&] { (void)region.view<const record>(offset, 1); }) == SHMB_EALIGN);
}

TEST_CASE("F34_kit_5_a_file_that_is_cut_off_under_a_mapping")
{
	constexpr std::size_t page = 4096;
	scratch_file file(std::string(4 * page, 'k'));

	SECTION("the hazard: by hand, the process dies of SIGBUS")
	{
		pid_t pid = ::fork();

		if (pid == 0) {
			::signal(SIGBUS, SIG_DFL);
			plain_mapping mapping(file.path(), 4 * page);

			file.truncate(page);
			::_exit(mapping.data()[3 * page]);
		}
		int status = 0;
		CHECK(::waitpid(pid, &status, 0) == pid);
		CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
	}
	SECTION("the answer: an error, and the process lives")
	{
		shmb::client client = connect();
		shmb::region region =
			shmb::region::create(client, "kit/5", 0, file.options(SHMB_READ));
		shmb::view<const char> view = region.view<const char>();

		file.truncate(page);
		CHECK(region.load<char>(page - 1) == 'k');
		CHECK(code_of([&] { (void)region.load<char>(3 * page); }) == SHMB_EBUS);
		CHECK(view[2 * page] == 0);
		CHECK(view[0] == 'k');
		CHECK(code_of([&] { view.release(); }) == SHMB_EBUS);
	}
	SECTION("resizing through the library: everybody follows")
	{
		shmb::client client = connect();
		shmb::region region = shmb::region::create(client, "kit/5", 0,
							   file.options(SHMB_READ | SHMB_WRITE));
		shmb::region reader = shmb::region::open(client, "kit/5");
		shmb::view<const char> view = reader.view<const char>();

		region.resize(page);
		CHECK(file.text().size() == page);
		CHECK(code_of([&] { (void)reader.load<char>(3 * page); }) == SHMB_EBOUNDS);
		CHECK(view[3 * page] == 0);
		region.resize(8 * page);
		region.store(7 * page, 'n');
		CHECK(reader.size() == 8 * page);
		CHECK(reader.load<char>(7 * page) == 'n');
		CHECK(reader.load<char>(3 * page) == 0);
		CHECK(file.text().at(7 * page) == 'n');
	}
}

TEST_CASE("F06_kit_6_a_private_mapping_leaves_the_file_as_it_is")
{
	const std::string text = pattern(10000);
	scratch_file file(text);
	shmb::client client = connect();
	shmb::region region =
		shmb::region::create(client, "kit/6", 0, file.options(SHMB_READ | SHMB_WRITE));
	shmb::region_options options;

	options.flags = SHMB_PRIVATE;
	shmb::region mine = shmb::region::open(client, "kit/6", SHMB_READ | SHMB_WRITE, options);
	mine.write(5000, std::string_view("for me alone"));
	mine.view<char>(0, 1)[0] = '!';
	mine.flush();
	CHECK(mine.load<char>(0) == '!');
	CHECK(mine.load<char>(5000) == 'f');
	CHECK(region.load<char>(0) == text[0]);
	CHECK(region.load<char>(5000) == text[5000]);
	CHECK(file.text() == text);
}

TEST_CASE("F37_kit_7_a_writer_and_a_reader_take_turns_by_name")
{
	enum { TURNS = 200 };
	child writer([](shmb::client &client, const line &parent) {
		shmb::semaphore room = shmb::semaphore::open_or_create(client, "kit/7/room");
		shmb::semaphore full = shmb::semaphore::open_or_create(client, "kit/7/full");
		parent.say();
		parent.hear();
		shmb::region region = shmb::region::open(client, "kit/7", SHMB_READ | SHMB_WRITE);
		shmb::named_lock lock = shmb::named_lock::open(client, "kit/7/lock");

		for (int turn = 1; turn <= TURNS; turn++) {
			EXPECT(room.wait(patience));
			{
				shmb::exclusive_guard guard(lock);
				auto numbers = region.view<int>();

				std::fill(numbers.begin(), numbers.end(), turn);
			}
			full.post();
		}
		parent.hear();
	});
	shmb::client client = connect();
	shmb::region region = shmb::region::create(client, "kit/7", 4096);
	shmb::named_lock lock = shmb::named_lock::create(client, "kit/7/lock");

	writer.hear();
	shmb::semaphore room = shmb::semaphore::open(client, "kit/7/room");
	shmb::semaphore full = shmb::semaphore::open(client, "kit/7/full");
	room.post();
	writer.say();
	int good = 0;
	for (int turn = 1; turn <= TURNS; turn++) {
		REQUIRE(full.wait(patience));
		{
			shmb::shared_guard guard(lock);
			auto numbers = region.view<const int>();

			good += std::all_of(numbers.begin(), numbers.end(),
					    [=](int number) { return number == turn; });
		}
		room.post();
	}
	CHECK(good == TURNS);
	writer.say();
	CHECK(writer.end());
}

TEST_CASE("F39_kit_smoke_all_of_it_and_unmapped_exactly_once")
{
	const std::string text = pattern(2 * 4096);
	scratch_file file(text);
	child other([&](shmb::client &client, const line &parent) {
		parent.hear();
		shmb::region region = shmb::region::open(client, "kit/smoke");
		EXPECT(region.load<int>(4096) == 42);
		plain_mapping fresh(file.path(), text.size());
		EXPECT(std::memcmp(const_cast<const char *>(fresh.data()) + 4096, "\x2a\0\0", 4) ==
		       0);
	});
	shmb::client client = connect();
	void *address = nullptr;

	CHECK(mappings_of(file.path()) == 0);
	{
		shmb::region region = shmb::region::create(client, "kit/smoke", 0,
							   file.options(SHMB_READ | SHMB_WRITE));
		shmb::view<const char> all = region.view<const char>();

		CHECK(std::string(all.begin(), all.end()) == text);
		CHECK(mappings_of(file.path()) == 1);
		{
			shmb::exclusive_guard guard(region);

			region.view<int>(4096, 1)[0] = 42;
			region.flush();
		}
		other.say();
		CHECK(other.end());
		CHECK(code_of([&] { (void)region.view<int>(4097, 1); }) == SHMB_EALIGN);

		shmb::region moved(std::move(region));
		address = moved.data();
		CHECK(mappings_of(file.path()) == 1);
		all.release();
		moved = shmb::region();
		CHECK(mappings_of(file.path()) == 0);

		/* What is mapped there now is not ours to unmap a second time. */
		void *next = ::mmap(address, 4096, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		CHECK(next == address);
	}
	CHECK(::msync(address, 4096, MS_ASYNC) == 0); /* ENOMEM where nothing is mapped */
	CHECK(::munmap(address, 4096) == 0);
	CHECK(file.text().substr(0, 4096) == text.substr(0, 4096));
}
