/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_CXX_PARTS_HPP
#define SHMBROKER_CXX_PARTS_HPP

/* Windows, cursors, walks and atomics. Part of <shmbroker/shmbroker.hpp>, whose first comment holds
 * here, too. */

#include <atomic>

#include <shmbroker/io.h>
#include <shmbroker/cxx/region.hpp>

namespace shmb
{
inline namespace SHMB_CXX_NAMESPACE
{

/* ---- Parts of a region ---- */

/** A part that behaves as a region of its own. */
class window : public detail::bytes<window>
{
public:
	window() noexcept = default;
	window(window &&other) noexcept : raw_(std::exchange(other.raw_, shmb_window{})) {}
	window &operator=(window &&other) noexcept
	{
		std::swap(raw_, other.raw_);
		return *this;
	}
	~window() { shmb_window_close(&raw_); }

	/** A part of this part; it does not depend on this one. */
	shmb::window narrow(std::uint64_t offset, std::uint64_t length = 0) const
	{
		shmb::window part;

		detail::check(shmb_window_open_within(&raw_, offset, length, &part.raw_),
			      raw_.region);
		return part;
	}

	/** Bytes of it that are within the region now. */
	std::uint64_t size() const noexcept { return shmb_window_size(&raw_); }
	/** Where it begins in the region. */
	std::uint64_t offset() const noexcept { return raw_.offset; }

	const shmb_window &get() const noexcept { return raw_; }

private:
	friend class region;
	friend class detail::bytes<window>;

	int read_raw(std::uint64_t offset, void *into, std::size_t length, unsigned flags) const
	{
		return shmb_window_read(&raw_, offset, into, length, flags);
	}
	int write_raw(std::uint64_t offset, const void *from, std::size_t length,
		      unsigned flags) const
	{
		return shmb_window_write(&raw_, offset, from, length, flags);
	}
	int view_raw(std::uint64_t offset, std::size_t length, std::size_t alignment,
		     unsigned access, shmb_view *ret_view) const
	{
		return shmb_window_view(&raw_, offset, length, alignment, access, ret_view);
	}
	[[noreturn]] void failed(int result) const
	{
		detail::fail(result, raw_.region, shmb_region_last_error);
	}

	shmb_window raw_{};
};

inline shmb::window region::window(std::uint64_t offset, std::uint64_t length) const
{
	shmb::window part;

	detail::check(shmb_window_open(get(), offset, length, &part.raw_), get());
	return part;
}

/** A region or window as a stream of bytes. */
class cursor
{
public:
	cursor() noexcept = default;
	explicit cursor(const region &whole) : region_(whole.get())
	{
		detail::check(shmb_cursor_open(whole.get(), &raw_), region_);
	}
	explicit cursor(const window &part) : region_(part.get().region)
	{
		detail::check(shmb_cursor_open_window(&part.get(), &raw_), region_);
	}
	cursor(cursor &&other) noexcept
	    : region_(std::exchange(other.region_, nullptr)),
	      raw_(std::exchange(other.raw_, shmb_cursor{}))
	{
	}
	cursor &operator=(cursor &&other) noexcept
	{
		std::swap(region_, other.region_);
		std::swap(raw_, other.raw_);
		return *this;
	}
	~cursor() { shmb_cursor_close(&raw_); }

	/** Bytes read: fewer than @into holds at the end, then 0. */
	template <class Range, detail::enable_range<Range> = 0> std::size_t read(Range &&into)
	{
		static_assert(sizeof(detail::element_t<Range>) == 1, "a cursor reads bytes");
		return done(shmb_cursor_read(&raw_, std::data(into), std::size(into)));
	}

	/** Bytes written: fewer than @from has where the region ends; SHMB_EBOUNDS at its end. */
	template <class Range, detail::enable_range<Range> = 0> std::size_t write(const Range &from)
	{
		static_assert(sizeof(detail::element_t<const Range>) == 1, "a cursor writes bytes");
		return done(shmb_cursor_write(&raw_, std::data(from), std::size(from)));
	}

	std::uint64_t seek(std::int64_t offset, shmb_whence whence = SHMB_SEEK_SET)
	{
		return done(shmb_cursor_seek(&raw_, offset, whence));
	}
	std::uint64_t tell() const noexcept { return raw_.position; }

	shmb_cursor *get() noexcept { return &raw_; }

private:
	std::size_t done(std::int64_t result) const
	{
		return static_cast<std::size_t>(detail::check(result, region_));
	}

	shmb_region *region_ = nullptr;
	shmb_cursor raw_{};
};

/** A walk in chunks, once from beginning to end, which stays where it is: its iterators point to
 * it. Byte: const std::byte, or std::byte to write. */
template <class Byte> class walk
{
	static_assert(std::is_same_v<std::remove_const_t<Byte>, std::byte>);

public:
	class iterator
	{
	public:
		using iterator_category = std::input_iterator_tag;
		using value_type = shmb::span<Byte>;
		using difference_type = std::ptrdiff_t;
		using pointer = const value_type *;
		using reference = value_type;

		explicit iterator(shmb_walk *raw) noexcept : raw_(raw) {}
		value_type operator*() const noexcept
		{
			return { static_cast<Byte *>(static_cast<void *>(raw_->data)),
				 raw_->length };
		}
		iterator &operator++() noexcept
		{
			if (shmb_walk_next(raw_) == 0)
				raw_ = nullptr;
			return *this;
		}
		void operator++(int) noexcept { ++*this; }
		bool operator==(const iterator &other) const noexcept { return raw_ == other.raw_; }
		bool operator!=(const iterator &other) const noexcept { return raw_ != other.raw_; }

	private:
		shmb_walk *raw_; /* null: at the end */
	};

	walk(const walk &) = delete;
	walk &operator=(const walk &) = delete;
	~walk() { (void)shmb_walk_close(&raw_); }

	/** The next chunk from where the walk is. */
	iterator begin() noexcept { return ++iterator(&raw_); }
	iterator end() noexcept { return iterator(nullptr); }
	/** Where the current chunk is in the region. */
	std::uint64_t offset() const noexcept { return raw_.offset; }
	/** End it now, and hear of memory that has vanished: throws SHMB_EBUS. */
	void close() { detail::check(shmb_walk_close(&raw_), region_); }

private:
	friend class region;

	walk(shmb_region *region, std::uint64_t offset, std::uint64_t length, std::size_t chunk)
	    : region_(region)
	{
		detail::check(
			shmb_walk_open(region, offset, length, chunk, view<Byte>::access, &raw_),
			region);
	}

	shmb_region *region_;
	shmb_walk raw_{};
};

template <class Byte>
shmb::walk<Byte> region::walk(std::size_t chunk, std::uint64_t offset, std::uint64_t length) const
{
	return { get(), offset, length, chunk };
}

/* ---- Atomics ---- */

/** Words that several processes change at once, without a lock: words[i].fetch_add(1). */
template <class T> class atomics
{
	static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
		      "integers of 32 or 64 bits");
	static constexpr bool wide = sizeof(T) == 8;
	using raw_type = std::conditional_t<wide, shmb_atomics64, shmb_atomics32>;

public:
#ifdef __cpp_lib_atomic_ref
	/** auto &&word = words[0] does for both standards. */
	using reference = std::atomic_ref<T>;
	static_assert(std::atomic_ref<T>::is_always_lock_free);
#else
	using reference = std::atomic<T> &;
	static_assert(std::atomic<T>::is_always_lock_free && sizeof(std::atomic<T>) == sizeof(T));
#endif

	atomics() noexcept = default;
	atomics(atomics &&other) noexcept : raw_(std::exchange(other.raw_, raw_type{})) {}
	atomics &operator=(atomics &&other) noexcept
	{
		std::swap(raw_, other.raw_);
		return *this;
	}
	~atomics()
	{
		if constexpr (wide)
			(void)shmb_atomics64_release(&raw_);
		else
			(void)shmb_atomics32_release(&raw_);
	}

	std::size_t size() const noexcept
	{
		return raw_.count;
	}

	reference operator[](std::size_t index) const noexcept
	{
		void *word = const_cast<void *>(static_cast<volatile void *>(raw_.words + index));
#ifdef __cpp_lib_atomic_ref
		return std::atomic_ref<T>(*static_cast<T *>(word));
#else
		return *static_cast<std::atomic<T> *>(word);
#endif
	}

private:
	friend class region;

	raw_type raw_{};
};

template <class T> shmb::atomics<T> region::atomics(std::uint64_t offset, std::size_t count) const
{
	shmb::atomics<T> words;

	if constexpr (sizeof(T) == 8)
		detail::check(shmb_region_atomics64(get(), offset, count, &words.raw_), get());
	else
		detail::check(shmb_region_atomics32(get(), offset, count, &words.raw_), get());
	return words;
}

} // namespace SHMB_CXX_NAMESPACE
} // namespace shmb

#endif
