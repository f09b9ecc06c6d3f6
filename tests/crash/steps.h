/* SPDX-License-Identifier: MIT */
#ifndef CRASH_STEPS_H
#define CRASH_STEPS_H

/* The numbered steps of layout/step.h: counted from the arming on, and at the chosen one SIGKILL.
 */

/* steps_arm() - die at step @n from now, counted from 1; 0: only count */
void steps_arm(unsigned n);

/* steps_disarm() - Return: how many were done since the arming */
unsigned steps_disarm(void);

#endif
