/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_CXX_ERROR_HPP
#define SHMBROKER_CXX_ERROR_HPP

/* Errors, timeouts, and what the rest is built with. Part of <shmbroker/shmbroker.hpp>, whose first
 * comment holds here, too. */

#include <array>
#include <chrono>
#include <exception>

#include <shmbroker/shmbroker.h>

#if __cplusplus >= 202002L && __has_include(<version>)
#include <version>
#endif
#ifdef __cpp_lib_span
#include <span>
#endif

/* Programs may be made of parts for both standards: what differs has names of its own. */
#if defined(__cpp_lib_span) && defined(__cpp_lib_atomic_ref)
#define SHMB_CXX_NAMESPACE cxx20
#else
#define SHMB_CXX_NAMESPACE cxx17
#endif

namespace shmb
{
inline namespace SHMB_CXX_NAMESPACE
{

/** For timeouts: wait without a limit. */
inline constexpr std::chrono::milliseconds forever{ -1 };

/* ---- Errors ---- */

/** What went wrong: a code of <shmbroker/errors.h>, a sentence, and the particulars. */
class error : public std::exception
{
public:
	explicit error(int code) noexcept
	{
		particulars_.struct_size = sizeof(particulars_);
		particulars_.code = code;
		(void)shmb_error_format(&particulars_, sentence_.data(), sentence_.size());
	}

	explicit error(const shmb_error &particulars) noexcept : particulars_(particulars)
	{
		(void)shmb_error_format(&particulars_, sentence_.data(), sentence_.size());
	}

	/** SHMB_E...; name() is what the wire calls it, such as "not-found". */
	int code() const noexcept { return particulars_.code; }

	const char *name() const noexcept { return shmb_error_name(particulars_.code); }

	/** A sentence with the particulars. */
	const char *what() const noexcept override { return sentence_.data(); }

	/** Offset, length, size, alignment, limit: 0 where they do not apply. */
	const shmb_error &particulars() const noexcept { return particulars_; }

private:
	shmb_error particulars_{};
	std::array<char, 256> sentence_{};
};

namespace detail
{

[[noreturn]] inline void fail(int code)
{
	throw error(code);
}

/* With the particulars, unless another thread's error has taken their place. */
template <class Handle>
[[noreturn]] void fail(int code, Handle *handle, int (*last)(Handle *, shmb_error *))
{
	shmb_error particulars{};

	particulars.struct_size = sizeof(particulars);
	if (handle == nullptr || last(handle, &particulars) != 0 || particulars.code != code)
		throw error(code);
	throw error(particulars);
}

template <class Result> Result check(Result result)
{
	if (result < 0)
		fail(static_cast<int>(result));
	return result;
}

template <class Result> Result check(Result result, shmb_client *client)
{
	if (result < 0)
		fail(static_cast<int>(result), client, shmb_client_last_error);
	return result;
}

template <class Result> Result check(Result result, shmb_region *region)
{
	if (result < 0)
		fail(static_cast<int>(result), region, shmb_region_last_error);
	return result;
}

inline int to_timeout(std::chrono::milliseconds timeout) noexcept
{
	constexpr std::chrono::milliseconds most{ 0x7fffffff };

	return static_cast<int>((timeout < forever ? forever
				 : timeout > most  ? most
						   : timeout)
					.count());
}

template <auto Free> struct freer {
	template <class Handle> void operator()(Handle *handle) const noexcept
	{
		(void)Free(handle);
	}
};

} // namespace detail

} // namespace SHMB_CXX_NAMESPACE
} // namespace shmb

#endif
