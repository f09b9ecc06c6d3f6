/* SPDX-License-Identifier: MIT */
#ifndef LAYOUT_RELAX_H
#define LAYOUT_RELAX_H

/* cpu_relax() - one turn of a spin loop: lets the other hyperthread run and saves power */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
	__asm__ __volatile__("yield" ::: "memory");
#else
	__asm__ __volatile__("" ::: "memory");
#endif
}

#endif
