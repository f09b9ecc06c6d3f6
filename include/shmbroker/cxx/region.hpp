/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_CXX_REGION_HPP
#define SHMBROKER_CXX_REGION_HPP

/* Client and region. Part of <shmbroker/shmbroker.hpp>, whose first comment holds here, too. */

#include <memory>
#include <optional>
#include <string>

#include <shmbroker/cxx/view.hpp>

namespace shmb
{
inline namespace SHMB_CXX_NAMESPACE
{

/* ---- Client ---- */

/** shmb_client_options with the defaults. */
struct client_options : shmb_client_options {
	client_options() noexcept : shmb_client_options(SHMB_CLIENT_OPTIONS_INIT) {}
};

class client
{
public:
	client() noexcept = default;
	/** shmb_client_connect(); without an address as if it were NULL. */
	explicit client(const char *address, const client_options &options = client_options())
	{
		shmb_client *raw = nullptr;

		detail::check(shmb_client_connect(address, &options, &raw));
		handle_.reset(raw);
	}

	/** A client that is connected to where the environment says. */
	static client connect(const client_options &options = client_options())
	{
		return client(nullptr, options);
	}

	void set_timeout(std::chrono::milliseconds timeout)
	{
		detail::check(shmb_client_set_timeout(get(), detail::to_timeout(timeout)), get());
	}
	void ping() { detail::check(shmb_client_ping(get()), get()); }
	int fd() { return detail::check(shmb_client_get_fd(get()), get()); }
	int events() const noexcept { return shmb_client_get_events(get()); }
	/** Callbacks run in here; they must not throw, as they are called by C. */
	int process() { return detail::check(shmb_client_process(get()), get()); }

	explicit operator bool() const noexcept { return handle_ != nullptr; }
	shmb_client *get() const noexcept { return handle_.get(); }

private:
	std::unique_ptr<shmb_client, detail::freer<shmb_client_free>> handle_;
};

/* ---- Region ---- */

/** shmb_region_options with the defaults. */
struct region_options : shmb_region_options {
	region_options() noexcept : shmb_region_options(SHMB_REGION_OPTIONS_INIT) {}
};

class window;
template <class T> class atomics;
template <class Byte> class walk;

class region : public detail::bytes<region>
{
public:
	region() noexcept = default;
	/** Takes over one that C gave. */
	explicit region(shmb_region *raw) noexcept : handle_(raw) {}

	static region create(client &owner, const std::string &name, std::uint64_t size,
			     const region_options &options = region_options())
	{
		return made(owner, name.c_str(), size, options);
	}

	/** Without a name. */
	static region create(client &owner, std::uint64_t size,
			     const region_options &options = region_options())
	{
		return made(owner, nullptr, size, options);
	}

	/** @access: enum shmb_access, ored. Only flags, huge and address of the options are used.
	 */
	static region open(client &owner, const std::string &name, unsigned access = SHMB_READ,
			   const region_options &options = region_options())
	{
		shmb_region *raw = nullptr;

		detail::check(shmb_region_open(owner.get(), name.c_str(), access, &options, &raw),
			      owner.get());
		return region(raw);
	}

	/** @ret_created: may be null */
	static region open_or_create(client &owner, const std::string &name, std::uint64_t size,
				     const region_options &options = region_options(),
				     bool *ret_created = nullptr)
	{
		shmb_region *raw = nullptr;
		int r = detail::check(
			shmb_region_open_or_create(owner.get(), name.c_str(), size, &options, &raw),
			owner.get());

		if (ret_created != nullptr)
			*ret_created = r == 1;
		return region(raw);
	}

	static region redeem(client &owner, const shmb_ticket &ticket, unsigned access = SHMB_READ,
			     const region_options &options = region_options())
	{
		shmb_region *raw = nullptr;

		detail::check(shmb_region_redeem(owner.get(), ticket.text, access, &options, &raw),
			      owner.get());
		return region(raw);
	}

	shmb_ticket ticket(unsigned access = SHMB_READ)
	{
		shmb_ticket ticket{};

		detail::check(shmb_region_ticket(get(), access, &ticket), get());
		return ticket;
	}

	/** Give it back; the object stays, and everything says SHMB_ECLOSED. */
	void close() { detail::check(shmb_region_close(get()), get()); }

	const char *name() const noexcept { return shmb_region_name(get()); }
	std::uint64_t size() const noexcept { return shmb_region_size(get()); }
	std::uint64_t capacity() const noexcept { return shmb_region_capacity(get()); }
	unsigned access() const noexcept { return shmb_region_access(get()); }
	/** Unchecked; see shmb_region_resize() for when it moves. view() is checked, and stays. */
	void *data() const noexcept { return shmb_region_data(get()); }

	struct shmb_region_info info() const
	{
		struct shmb_region_info info {
		};

		info.struct_size = sizeof(info);
		detail::check(shmb_region_info(get(), &info), get());
		return info;
	}

	void resize(std::uint64_t size) { detail::check(shmb_region_resize(get(), size), get()); }

	/** When it returns the bytes of a file are on the disk. @length 0: all from @offset on. */
	void flush(std::uint64_t offset = 0, std::uint64_t length = 0, unsigned flags = 0)
	{
		detail::check(shmb_region_flush(get(), offset, length, flags), get());
	}

	void touch(std::uint64_t offset = 0, std::uint64_t length = 0)
	{
		detail::check(shmb_region_touch(get(), offset, length), get());
	}
	void advise(shmb_advice advice, std::uint64_t offset = 0, std::uint64_t length = 0)
	{
		detail::check(shmb_region_advise(get(), offset, length, advice), get());
	}

	void publish(std::uint64_t offset = 0, std::uint64_t length = 0)
	{
		detail::check(shmb_region_publish(get(), offset, length), get());
	}
	std::uint64_t sequence() const noexcept { return shmb_region_sequence(get()); }
	/** What was published after @seen, or nothing: @timeout has passed. */
	std::optional<shmb_publication> wait(std::uint64_t seen,
					     std::chrono::milliseconds timeout = forever)
	{
		shmb_publication publication{};
		int r = shmb_region_wait(get(), seen, detail::to_timeout(timeout), &publication);

		if (r == SHMB_ETIMEDOUT)
			return std::nullopt;
		detail::check(r, get());
		return publication;
	}

	/** An untorn copy, with read access alone. */
	template <class Range, detail::enable_range<Range> = 0>
	void snapshot(std::uint64_t offset, Range &&into) const
	{
		detail::check(shmb_region_snapshot(get(), offset, std::data(into),
						   detail::size_bytes(into)),
			      get());
	}

	/** @length 0: everything from @offset on, as of now */
	shmb::window window(std::uint64_t offset, std::uint64_t length = 0) const;

	/** In chunks of bytes: for (auto chunk : region.walk(4096)) ...; walk<std::byte>() to
	 * write.
	 */
	template <class Byte = const std::byte>
	shmb::walk<Byte> walk(std::size_t chunk, std::uint64_t offset = 0,
			      std::uint64_t length = 0) const;

	/** Words that several processes change at once. T: an integer of 32 or 64 bits. */
	template <class T>
	shmb::atomics<T> atomics(std::uint64_t offset, std::size_t count = 1) const;

	explicit operator bool() const noexcept { return handle_ != nullptr; }
	shmb_region *get() const noexcept { return handle_.get(); }

private:
	friend class detail::bytes<region>;

	static region made(client &owner, const char *name, std::uint64_t size,
			   const region_options &options)
	{
		shmb_region *raw = nullptr;

		detail::check(shmb_region_create(owner.get(), name, size, &options, &raw),
			      owner.get());
		return region(raw);
	}

	int read_raw(std::uint64_t offset, void *into, std::size_t length, unsigned flags) const
	{
		return shmb_region_read(get(), offset, into, length, flags);
	}
	int write_raw(std::uint64_t offset, const void *from, std::size_t length,
		      unsigned flags) const
	{
		return shmb_region_write(get(), offset, from, length, flags);
	}
	int view_raw(std::uint64_t offset, std::size_t length, std::size_t alignment,
		     unsigned access, shmb_view *ret_view) const
	{
		return shmb_region_view(get(), offset, length, alignment, access, ret_view);
	}
	[[noreturn]] void failed(int result) const
	{
		detail::fail(result, get(), shmb_region_last_error);
	}

	std::unique_ptr<shmb_region, detail::freer<shmb_region_free>> handle_;
};

} // namespace SHMB_CXX_NAMESPACE
} // namespace shmb

#endif
