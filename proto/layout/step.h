/* SPDX-License-Identifier: MIT */
#ifndef LAYOUT_STEP_H
#define LAYOUT_STEP_H

/*
 * STEP() stands behind each access to shared memory at which dying makes a difference. It is
 * nothing, except in the build of the crash tests (LAYOUT_STEPS defined), whose layout_step()
 * counts and, at the chosen one, kills the process.
 */
#ifdef LAYOUT_STEPS
void layout_step(void);
#define STEP() layout_step()
#else
#define STEP() ((void)0)
#endif

#endif
