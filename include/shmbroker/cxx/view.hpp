/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_CXX_VIEW_HPP
#define SHMBROKER_CXX_VIEW_HPP

/* Spans, and views of a range in place. Part of <shmbroker/shmbroker.hpp>, whose first comment
 * holds here, too. */

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <type_traits>
#include <utility>

#include <shmbroker/cxx/error.hpp>

namespace shmb
{
inline namespace SHMB_CXX_NAMESPACE
{

/* ---- Spans ---- */

#ifdef __cpp_lib_span
using std::span;
#else
/** What is needed of std::span where there is none. */
template <class T> class span
{
public:
	using element_type = T;
	using value_type = std::remove_cv_t<T>;
	using iterator = T *;

	constexpr span() noexcept = default;
	constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}

	template <std::size_t N> constexpr span(T (&array)[N]) noexcept : data_(array), size_(N) {}

	/* Any that has data() and size() of elements that only differ in being const. */
	template <class Container,
		  class Data =
			  std::remove_pointer_t<decltype(std::data(std::declval<Container &>()))>,
		  class = std::enable_if_t<std::is_convertible_v<Data (*)[], T (*)[]>>>
	constexpr span(Container &&container)
	    : data_(std::data(container)), size_(std::size(container))
	{
	}

	constexpr T *data() const noexcept { return data_; }
	constexpr std::size_t size() const noexcept { return size_; }
	constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
	constexpr bool empty() const noexcept { return size_ == 0; }
	constexpr T &operator[](std::size_t index) const { return data_[index]; }
	constexpr T *begin() const noexcept { return data_; }
	constexpr T *end() const noexcept { return data_ + size_; }
	constexpr span first(std::size_t count) const { return { data_, count }; }
	constexpr span subspan(std::size_t offset) const
	{
		return { data_ + offset, size_ - offset };
	}

private:
	T *data_ = nullptr;
	std::size_t size_ = 0;
};

template <class T, std::size_t N> span(T (&)[N]) -> span<T>;
#endif

/** May its bytes be copied to other processes? Whether they mean anything there (a pointer does
 * not) is the program's to know. */
template <class T> inline constexpr bool is_shareable_v =
	std::conjunction_v<std::is_trivially_copyable<T>, std::is_object<T>,
			   std::negation<std::is_volatile<T>>>;

/* ---- Views ---- */

/**
 * A checked range of a region, in place: read-only for a const T, else writable. See
 * shmb_region_view().
 *
 * T has to be trivially copyable; an offset that does not suit it is SHMB_EALIGN.
 */
template <class T> class view
{
	static_assert(is_shareable_v<T>, "only trivially copyable types can lie in shared memory");

public:
	static constexpr unsigned access =
		std::is_const_v<T> ? unsigned{ SHMB_READ } : unsigned{ SHMB_READ } | SHMB_WRITE;

	view() noexcept = default;
	/** Takes over one that C gave. */
	explicit view(const shmb_view &raw) noexcept : raw_(raw) {}
	view(view &&other) noexcept : raw_(std::exchange(other.raw_, shmb_view{})) {}
	view &operator=(view &&other) noexcept
	{
		std::swap(raw_, other.raw_);
		return *this;
	}
	~view() { (void)shmb_view_release(&raw_); }

	T *data() const noexcept { return static_cast<T *>(raw_.data); }
	/** Elements, not bytes. */
	std::size_t size() const noexcept { return raw_.length / sizeof(T); }
	T *begin() const noexcept { return data(); }
	T *end() const noexcept { return data() + size(); }
	T &operator[](std::size_t index) const { return data()[index]; }
	shmb::span<T> span() const noexcept { return { data(), size() }; }

	/** End it now, and hear of memory that has vanished: throws SHMB_EBUS. */
	void release()
	{
		shmb_region *region = raw_.region;

		detail::check(shmb_view_release(&raw_), region);
		raw_ = shmb_view{};
	}

	const shmb_view &get() const noexcept { return raw_; }

private:
	shmb_view raw_{};
};

namespace detail
{

/* What an array, a span or a container consists of, if that can be shared. */
template <class Range> using element_t =
	std::remove_pointer_t<decltype(std::data(std::declval<Range &>()))>;

template <class Range> using enable_range = std::enable_if_t<is_shareable_v<element_t<Range>>, int>;

template <class Range> std::size_t size_bytes(const Range &range) noexcept
{
	return std::size(range) * sizeof(element_t<const Range>);
}

/*
 * Reading, writing and views, the same for regions and windows. Of those it needs read_raw(),
 * write_raw(), view_raw() and size(), and failed(), which throws.
 */
template <class Derived> class bytes
{
public:
	/** One value at any offset, aligned or not. */
	template <class T, std::enable_if_t<is_shareable_v<T>, int> = 0>
	T load(std::uint64_t offset, unsigned flags = 0) const
	{
		static_assert(std::is_default_constructible_v<T>);
		T value;

		done(self().read_raw(offset, std::addressof(value), sizeof(value), flags));
		return value;
	}

	template <class T, std::enable_if_t<is_shareable_v<T>, int> = 0>
	void store(std::uint64_t offset, const T &value, unsigned flags = 0) const
	{
		done(self().write_raw(offset, std::addressof(value), sizeof(value), flags));
	}

	/** As many values as @into or @from, an array, span or container, has. @flags: enum
	 * shmb_copy_flags. */
	template <class Range, detail::enable_range<Range> = 0>
	void read(std::uint64_t offset, Range &&into, unsigned flags = 0) const
	{
		static_assert(!std::is_const_v<element_t<Range>>);
		done(self().read_raw(offset, std::data(into), size_bytes(into), flags));
	}

	template <class Range, detail::enable_range<Range> = 0>
	void write(std::uint64_t offset, const Range &from, unsigned flags = 0) const
	{
		done(self().write_raw(offset, std::data(from), size_bytes(from), flags));
	}

	/** @count values in place: view<const T>() to read, view<T>() to write, too. */
	template <class T, std::enable_if_t<is_shareable_v<T>, int> = 0>
	shmb::view<T> view(std::uint64_t offset, std::size_t count) const
	{
		shmb_view raw{};

		if (count > static_cast<std::size_t>(-1) / sizeof(T))
			fail(SHMB_EBOUNDS);
		done(self().view_raw(offset, count * sizeof(T), alignof(T), shmb::view<T>::access,
				     &raw));
		return shmb::view<T>(raw);
	}

	/** As many as there are from @offset on; SHMB_EBOUNDS: not even one. */
	template <class T, std::enable_if_t<is_shareable_v<T>, int> = 0>
	shmb::view<T> view(std::uint64_t offset = 0) const
	{
		std::uint64_t size = self().size();
		std::uint64_t count = offset < size ? (size - offset) / sizeof(T) : 0;

		return this->template view<T>(offset,
					      count > 0 ? static_cast<std::size_t>(count) : 1);
	}

private:
	const Derived &self() const noexcept { return static_cast<const Derived &>(*this); }

	void done(int result) const
	{
		if (result < 0)
			self().failed(result);
	}
};

} // namespace detail

} // namespace SHMB_CXX_NAMESPACE
} // namespace shmb

#endif
