/* refused: read-only|const */
#include <shmbroker/shmbroker.hpp>

#ifdef ACCEPTED
using type = int;
#else
using type = const int;
#endif

void change(const shmb::region &region)
{
	region.view<type>(0, 1)[0] = 1;
}
