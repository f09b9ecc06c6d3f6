/* SPDX-License-Identifier: MIT */
/*
 * In C++: a process that measures, one that looks. Typed views, a guard that knows what to do when
 * a writer has died, publish and wait, and atomics; nothing here is given back by hand.
 */
#include <algorithm>
#include <cstdio>
#include <cstring>

#include <sys/wait.h>
#include <unistd.h>

#include <shmbroker/shmbroker.hpp>

namespace
{

constexpr std::uint64_t header_bytes = 64;
constexpr std::size_t samples = 1000;
constexpr int rounds = 20;

struct sample {
	std::uint64_t number;
	double volts;
};

/* Every sample of a round has its number. */
bool is_whole(const shmb::view<const sample> &view)
{
	for (const sample &one : view)
		if (one.number != view[0].number)
			return false;
	return true;
}

void measure(shmb::region &region)
{
	auto written = region.atomics<std::uint64_t>(0);

	for (int round = 1; round <= rounds; round++) {
		{
			/* Whoever wrote before us may have died half-way. */
			shmb::exclusive_guard guard(region, [&] {
				auto view = region.view<sample>(header_bytes, samples);

				std::fill(view.begin(), view.end(), sample{});
			});
			auto view = region.view<sample>(header_bytes, samples);

			for (sample &one : view)
				one = { static_cast<std::uint64_t>(round), 0.5 * round };
		}
		written[0].fetch_add(1);
		region.publish(header_bytes, samples * sizeof(sample));
	}
}

int look(shmb::region &region)
{
	auto written = region.atomics<std::uint64_t>(0);
	std::uint64_t seen = 0;
	int looks = 0;

	while (written[0].load() < rounds) {
		auto news = region.wait(seen, std::chrono::seconds(10));

		if (!news)
			return 1;
		seen = news->sequence;
		shmb::shared_guard guard(region);
		if (!is_whole(region.view<const sample>(header_bytes, samples)))
			return 1;
		looks++;
	}
	std::printf("%d rounds, looked at %d times\n", rounds, looks);
	return 0;
}

int run(const char *program, bool measures)
{
	shmb::client client = shmb::client::connect();
	shmb::region region = shmb::region::open_or_create(client, "telemetry",
							   header_bytes + samples * sizeof(sample));

	if (measures) {
		measure(region);
		return 0;
	}
	pid_t pid = ::fork();
	if (pid == 0) {
		::execlp(program, program, "measure", nullptr);
		::_exit(127);
	}
	int status = -1, failed = look(region);
	return ::waitpid(pid, &status, 0) == pid && status == 0 ? failed : 1;
}

} // namespace

int main(int argc, char **argv)
{
	try {
		return run(argv[0], argc > 1 && std::strcmp(argv[1], "measure") == 0);
	} catch (const shmb::error &error) {
		std::fprintf(stderr, "telemetry: %s\n", error.what());
		return 1;
	}
}
