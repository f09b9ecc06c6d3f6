/* refused: a cursor reads bytes */
#include <shmbroker/shmbroker.hpp>

#ifdef ACCEPTED
using type = char;
#else
using type = int;
#endif

std::size_t next(shmb::cursor &cursor)
{
	type into[4];

	return cursor.read(into);
}
