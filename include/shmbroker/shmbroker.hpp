/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_HPP
#define SHMBROKER_HPP

/**
 * The library for C++17 and later: <shmbroker/shmbroker.h> and <shmbroker/io.h> as values that let
 * go by themselves. Header-only: link with libshmbroker, nothing else.
 *
 * What a function does, what blocks and for how long, which threads may call it, and what the flags
 * mean stands in the C headers over the function of the same name; here stands only what C++ adds.
 *
 * Errors: what fails throws shmb::error, the one exception of this header, except destructors,
 * which say nothing (release(), close() and unlock() do). A timeout that was given and passed is no
 * error where a return value can say so. Every object has get() for the functions that have no
 * member here (watching, administration, what runs in the background), and for programs that must
 * not throw.
 *
 * Values: objects move and do not copy; one that was moved from is empty, as is a default one. An
 * empty one may be destroyed or assigned to, and asked whether it is (by its operator bool, size()
 * or held()); empty windows and cursors throw SHMB_ECLOSED. A walk does not move, and guards and
 * permits are not assigned to: they last as long as their block. A region keeps its connection for
 * as long as it needs it, whatever becomes of the client; views, windows, cursors, walks, atomics
 * and guards end before their region does.
 *
 * Nothing here allocates but std::string arguments for names.
 */

#include <shmbroker/cxx/lock.hpp>
#include <shmbroker/cxx/parts.hpp>
#include <shmbroker/cxx/region.hpp>

#endif
