/* refused: only trivially copyable types */
#include <string>

#include <shmbroker/shmbroker.hpp>

#ifdef ACCEPTED
using type = char;
#else
using type = std::string;
#endif

std::size_t look(const shmb_view &raw)
{
	return shmb::view<type>(raw).size();
}
