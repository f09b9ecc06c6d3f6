/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_CXX_LOCK_HPP
#define SHMBROKER_CXX_LOCK_HPP

/* Locks of regions, named locks, and semaphores. Part of <shmbroker/shmbroker.hpp>, whose first
 * comment holds here, too. */

#include <shmbroker/cxx/region.hpp>

namespace shmb
{
inline namespace SHMB_CXX_NAMESPACE
{

/* ---- Locks ---- */

/** shmb_lock_options with the defaults. */
struct lock_options : shmb_lock_options {
	lock_options() noexcept : shmb_lock_options(SHMB_LOCK_OPTIONS_INIT) {}
};

/** A lock without data. */
class named_lock
{
public:
	named_lock() noexcept = default;

	static named_lock create(client &owner, const std::string &name,
				 const lock_options &options = lock_options())
	{
		shmb_lock *raw = nullptr;

		detail::check(shmb_lock_create(owner.get(), name.c_str(), &options, &raw),
			      owner.get());
		return named_lock(raw);
	}

	static named_lock open(client &owner, const std::string &name)
	{
		shmb_lock *raw = nullptr;

		detail::check(shmb_lock_open(owner.get(), name.c_str(), &raw), owner.get());
		return named_lock(raw);
	}

	static named_lock open_or_create(client &owner, const std::string &name,
					 const lock_options &options = lock_options())
	{
		shmb_lock *raw = nullptr;

		detail::check(shmb_lock_open_or_create(owner.get(), name.c_str(), &options, &raw),
			      owner.get());
		return named_lock(raw);
	}

	explicit operator bool() const noexcept { return handle_ != nullptr; }
	shmb_lock *get() const noexcept { return handle_.get(); }

private:
	explicit named_lock(shmb_lock *raw) noexcept : handle_(raw) {}

	std::unique_ptr<shmb_lock, detail::freer<shmb_lock_free>> handle_;
};

namespace detail
{

inline int acquire(shmb_region *region, shmb_lock_kind kind, int timeout)
{
	return shmb_region_lock(region, kind, timeout);
}
inline int acquire(shmb_lock *lock, shmb_lock_kind kind, int timeout)
{
	return shmb_lock_acquire(lock, kind, timeout);
}
inline int give_back(shmb_region *region)
{
	return shmb_region_unlock(region);
}
inline int give_back(shmb_lock *lock)
{
	return shmb_lock_release(lock);
}
inline int mark(shmb_region *region)
{
	return shmb_region_mark_consistent(region);
}
inline int mark(shmb_lock *lock)
{
	return shmb_lock_mark_consistent(lock);
}
inline int reset(shmb_region *region)
{
	return shmb_region_reset_lock(region);
}
inline int reset(shmb_lock *lock)
{
	return shmb_lock_reset(lock);
}

/* What both guards are: a lock that is held, and given back. */
template <class Handle> class guard
{
public:
	guard(guard &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
	guard &operator=(guard &&) = delete;
	~guard()
	{
		if (handle_ != nullptr)
			(void)give_back(handle_);
	}

	/** Give it back before the end of the block. SHMB_EINVAL: it is not held any more. */
	void unlock()
	{
		if (handle_ == nullptr)
			fail(SHMB_EINVAL);
		check(give_back(std::exchange(handle_, nullptr)));
	}
	bool held() const noexcept { return handle_ != nullptr; }

protected:
	guard(Handle *handle, shmb_lock_kind kind, std::chrono::milliseconds timeout)
	    : result_(acquire(handle, kind, to_timeout(timeout)))
	{
		if (result_ < 0 && (result_ != SHMB_EOWNERDEAD || kind == SHMB_SHARED))
			fail(result_);
		handle_ = handle;
	}

	/* Nobody has put the data right: the next one is to know of it as this one does. */
	void abandon() noexcept
	{
		Handle *handle = std::exchange(handle_, nullptr);

		(void)give_back(handle);
		(void)reset(handle);
	}

	Handle *handle_ = nullptr;
	int result_;
};

} // namespace detail

/**
 * Holds the lock of a region, or a named one, exclusively.
 *
 * If its last holder died, what it guards may be half-written. With @repair, which is called with
 * the lock held and puts the data right, that is settled, and the guard goes on; if @repair throws,
 * or there is none, the constructor throws (SHMB_EOWNERDEAD), the lock is not held, and the next
 * one to lock it is told the same. (One that tries at that very moment may be told
 * SHMB_ENOTRECOVERABLE: the lock is given back and then reset.)
 *
 *	shmb::exclusive_guard guard(region, [&] { put_right(region); });
 *
 * @timeout: SHMB_ETIMEDOUT is thrown when it has passed
 */
template <class Handle> class [[nodiscard]] exclusive_guard : public detail::guard<Handle>
{
public:
	template <class Lockable>
	explicit exclusive_guard(const Lockable &lockable,
				 std::chrono::milliseconds timeout = forever)
	    : detail::guard<Handle>(lockable.get(), SHMB_EXCLUSIVE, timeout)
	{
		if (this->result_ != SHMB_EOWNERDEAD)
			return;
		this->abandon();
		detail::fail(SHMB_EOWNERDEAD);
	}

	template <class Lockable, class Repair,
		  std::enable_if_t<std::is_invocable_v<Repair &>, int> = 0>
	exclusive_guard(const Lockable &lockable, Repair &&repair,
			std::chrono::milliseconds timeout = forever)
	    : detail::guard<Handle>(lockable.get(), SHMB_EXCLUSIVE, timeout)
	{
		if (this->result_ != SHMB_EOWNERDEAD)
			return;
		try {
			repair();
			detail::check(detail::mark(this->handle_));
		} catch (...) {
			this->abandon();
			throw;
		}
	}
};

/** Holds it shared. SHMB_EOWNERDEAD: not held, nobody has put the data right yet. */
template <class Handle> class [[nodiscard]] shared_guard : public detail::guard<Handle>
{
public:
	template <class Lockable>
	explicit shared_guard(const Lockable &lockable, std::chrono::milliseconds timeout = forever)
	    : detail::guard<Handle>(lockable.get(), SHMB_SHARED, timeout)
	{
	}
};

template <class Lockable, class... Rest> exclusive_guard(const Lockable &lockable, Rest &&...)
	-> exclusive_guard<std::remove_pointer_t<decltype(lockable.get())>>;
template <class Lockable, class... Rest> shared_guard(const Lockable &lockable, Rest &&...)
	-> shared_guard<std::remove_pointer_t<decltype(lockable.get())>>;

/* ---- Semaphores ---- */

/** shmb_semaphore_options with the defaults. */
struct semaphore_options : shmb_semaphore_options {
	semaphore_options() noexcept : shmb_semaphore_options(SHMB_SEMAPHORE_OPTIONS_INIT) {}
};

class semaphore
{
public:
	semaphore() noexcept = default;

	static semaphore create(client &owner, const std::string &name,
				const semaphore_options &options = semaphore_options())
	{
		shmb_semaphore *raw = nullptr;

		detail::check(shmb_semaphore_create(owner.get(), name.c_str(), &options, &raw),
			      owner.get());
		return semaphore(raw);
	}

	static semaphore open(client &owner, const std::string &name)
	{
		shmb_semaphore *raw = nullptr;

		detail::check(shmb_semaphore_open(owner.get(), name.c_str(), &raw), owner.get());
		return semaphore(raw);
	}

	static semaphore open_or_create(client &owner, const std::string &name,
					const semaphore_options &options = semaphore_options())
	{
		shmb_semaphore *raw = nullptr;

		detail::check(
			shmb_semaphore_open_or_create(owner.get(), name.c_str(), &options, &raw),
			owner.get());
		return semaphore(raw);
	}

	/** Take one, as of a counting semaphore. Return: false: @timeout has passed. */
	bool wait(std::chrono::milliseconds timeout = forever)
	{
		int r = shmb_semaphore_wait(get(), detail::to_timeout(timeout));

		return r != SHMB_ETIMEDOUT && detail::check(r) == 0;
	}
	void post(std::uint32_t n = 1) { detail::check(shmb_semaphore_post(get(), n)); }
	std::uint64_t value() const
	{
		return static_cast<std::uint64_t>(detail::check(shmb_semaphore_value(get())));
	}

	explicit operator bool() const noexcept { return handle_ != nullptr; }
	shmb_semaphore *get() const noexcept { return handle_.get(); }

private:
	explicit semaphore(shmb_semaphore *raw) noexcept : handle_(raw) {}

	std::unique_ptr<shmb_semaphore, detail::freer<shmb_semaphore_free>> handle_;
};

/** One permit of an owned semaphore, given back at the end of the block. */
class [[nodiscard]] permit
{
public:
	/** @timeout: SHMB_ETIMEDOUT is thrown when it has passed */
	explicit permit(const semaphore &of, std::chrono::milliseconds timeout = forever)
	{
		detail::check(shmb_semaphore_take(of.get(), detail::to_timeout(timeout), &raw_));
		semaphore_ = of.get();
	}
	/** Become the holder of one that another client handed on; SHMB_ENOENT: it came back. */
	permit(const semaphore &of, const shmb_permit &handed_on) : raw_(handed_on)
	{
		detail::check(shmb_semaphore_adopt(of.get(), &raw_));
		semaphore_ = of.get();
	}
	permit(permit &&other) noexcept
	    : semaphore_(std::exchange(other.semaphore_, nullptr)), raw_(other.raw_)
	{
	}
	permit &operator=(permit &&) = delete;
	~permit()
	{
		if (semaphore_ != nullptr)
			(void)shmb_semaphore_give(semaphore_, &raw_);
	}

	/** Which one: the buffer of a pool, say. */
	std::uint32_t index() const noexcept { return raw_.index; }
	/** Give it back before the end of the block; once, and not after hand_on(). */
	void give()
	{
		detail::check(shmb_semaphore_give(std::exchange(semaphore_, nullptr), &raw_));
	}
	/** It is another client's to adopt: this one no longer gives it back. */
	shmb_permit hand_on() noexcept
	{
		semaphore_ = nullptr;
		return raw_;
	}

private:
	shmb_semaphore *semaphore_ = nullptr;
	shmb_permit raw_{};
};

} // namespace SHMB_CXX_NAMESPACE
} // namespace shmb

#endif
