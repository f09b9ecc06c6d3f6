/* SPDX-License-Identifier: MIT */
/* The same in C++. */
#include <shmbroker/shmbroker.hpp>

#include <cstdio>

int main()
{
	try {
		shmb::client client = shmb::client::connect();
		shmb::region region = shmb::region::create(client, "installed/cpp", 4096);

		region.store(8, 42);
		std::printf("it works in C++, too\n");
		return region.load<int>(8) == 42 ? 0 : 1;
	} catch (const shmb::error &error) {
		std::fprintf(stderr, "%s\n", error.what());
		return 1;
	}
}
