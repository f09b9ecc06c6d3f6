/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CPP_CHILD_HPP
#define TESTS_CPP_CHILD_HPP

/*
 * Another process for a test, that runs a function with a client of its own and reports by how it
 * ends; and two ways to wait for each other without sleeping. Start it before this process has
 * threads.
 */

#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include <shmbroker/shmbroker.hpp>

/* With time enough for a busy machine. */
inline shmb::client connect()
{
	shmb::client_options options;

	options.timeout_ms = 60000;
	return shmb::client::connect(options);
}

/* One end of a line between two processes: say() and hear() a byte. */
class line
{
public:
	explicit line(int fd) : fd_(fd) {}
	line(const line &) = delete;
	line &operator=(const line &) = delete;
	~line() { ::close(fd_); }

	void say() const
	{
		if (::send(fd_, "+", 1, MSG_NOSIGNAL) != 1)
			throw std::runtime_error("nobody hears");
	}
	void hear() const
	{
		char word;

		if (::read(fd_, &word, 1) != 1)
			throw std::runtime_error("nobody says anything");
	}

private:
	int fd_;
};

class child
{
public:
	explicit child(const std::function<void(shmb::client &, const line &)> &work)
	{
		int ends[2];

		if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
			throw std::runtime_error("socketpair");
		pid_ = ::fork();
		if (pid_ == 0) {
			::close(ends[0]);
			be(work, ends[1]);
		}
		::close(ends[1]);
		line_.emplace(ends[0]);
	}
	child(const child &) = delete;
	child &operator=(const child &) = delete;
	~child()
	{
		if (pid_ > 0)
			kill();
	}

	void say() const { line_->say(); }
	void hear() const { line_->hear(); }

	/* Return: did it end without an exception? */
	bool end() { return await() == 0; }

	void kill()
	{
		::kill(pid_, SIGKILL);
		(void)await();
	}

private:
	[[noreturn]] static void be(const std::function<void(shmb::client &, const line &)> &work,
				    int fd)
	{
		int code = 0;

		::alarm(60);
		try {
			line parent(fd);
			shmb::client client = connect();

			work(client, parent);
		} catch (const std::exception &problem) {
			std::fprintf(stderr, "the other process: %s\n", problem.what());
			code = 1;
		}
		::_exit(code);
	}

	int await()
	{
		int status = -1;

		(void)::waitpid(std::exchange(pid_, -1), &status, 0);
		return status;
	}

	pid_t pid_;
	std::optional<line> line_;
};

/* In the other process, where Catch2 does not look. */
inline void expect(bool condition, const char *what)
{
	if (!condition)
		throw std::runtime_error(what);
}

#define EXPECT(condition) expect(condition, #condition)

/* The code of the shmb::error that a call throws; 0: none. */
template <class Call> int code_of(Call &&call)
{
	try {
		call();
	} catch (const shmb::error &error) {
		return error.code();
	}
	return 0;
}

#endif
