/* refused: no matching (member )?function */
/* A std::string in shared memory would be a pointer into another process. */
#include <string>

#include <shmbroker/shmbroker.hpp>

#ifdef ACCEPTED
using type = char;
#else
using type = std::string;
#endif

std::size_t look(const shmb::region &region)
{
	return region.view<const type>(0, 1).size();
}
