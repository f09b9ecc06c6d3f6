/* refused: delete */
#include <utility>

#include <shmbroker/shmbroker.hpp>

shmb::region second(shmb::region &first)
{
#ifdef ACCEPTED
	return std::move(first);
#else
	return first;
#endif
}
