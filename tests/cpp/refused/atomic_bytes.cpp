/* refused: integers of 32 or 64 bits */
#include <shmbroker/shmbroker.hpp>

#ifdef ACCEPTED
using type = unsigned;
#else
using type = unsigned char;
#endif

std::size_t words(const shmb::region &region)
{
	return region.atomics<type>(0).size();
}
