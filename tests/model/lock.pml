/* SPDX-License-Identifier: MIT */
/*
 * The shared and exclusive lock of proto/layout/lock.h, with a crash possible at every step of every
 * client and of the broker's repair. doc/coordination.md tells what is checked and how; tests/model/check
 * runs it. Numbers in brackets are those in lock.h and lock.c. Each access to shared memory is one step.
 *
 * Left out on purpose: `next`, the tickets and the courtesy. Holding back is being slow between two steps,
 * and that happens here anyway, for any length. Spinning, too, is being slow. An operation either times out
 * when it should go to sleep, or sleeps without a limit, so that a wake-up that is lost shows as an invalid
 * end state.
 *
 * `solo`, the count that a process's first thread has for itself, is to the model one more `readers`. That its
 * leaver may look for DRAINING too early, and what that costs, is in doc/coordination.md.
 *
 * A compare-and-exchange in a loop is one step: a failed round changes nothing and is tried again.
 *
 * Parameters: CLIENTS (threads), SLOTS, ONE_SLOT (the first two threads share slot 1), OPS (operations of
 * each thread), KILLS, BROKER_KILLS, REBIRTH (slots are used again), NO_SHARED, NO_EXCLUSIVE, and the
 * mutations M_....
 */
#ifndef CLIENTS
#define CLIENTS 3
#endif
#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef OPS
#define OPS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef BROKER_KILLS
#define BROKER_KILLS 1
#endif

/* The word, with two bits for the slot. */
#define SLOT 3
#define LOST 4
#define DIED 8
#define DRAINING 16
#define SLEEPERS 32

byte word;
byte published;
byte readers[SLOTS + 1];
bit held[SLOTS + 1];

/* The kernel: what a thread sleeps on. */
#define AWAKE 0
#define ON_WORD 1
#define ON_READERS 2 /* and the slot */
byte asleep[3];

#define WAKE_ONE(p, what)                            \
	if                                           \
	:: asleep[p] == (what) -> asleep[p] = AWAKE; \
	:: else                                      \
	fi
#define WAKE_ALL_IF(condition, what) \
	d_step {                   \
		condition ->       \
		WAKE_ONE(0, what); \
		WAKE_ONE(1, what); \
		WAKE_ONE(2, what); \
	}
#define WAKE_ALL(what) WAKE_ALL_IF(true, what)

/* Life and death. */
bit dead[SLOTS + 1];     /* the process of the slot is gone, */
bit repaired[SLOTS + 1]; /* and the broker has undone what it had */
bit done[3];
byte kills, broker_kills;

/* What is true, whatever the words say. */
bit reading[3], writing[3]; /* the thread is inside */
bit dirty;                  /* the data are half-written */
byte told;                  /* what the word should tell of the past when all is quiet: 0, DIED or LOST */

#define ANY_WRITER (writing[0] || writing[1] || writing[2])
#define ANY_READER (reading[0] || reading[1] || reading[2])

#ifdef ONE_SLOT
#define SLOT_OF(p) ((p) == 0 -> 1 : (p))
#else
#define SLOT_OF(p) ((p) + 1)
#endif

/* Locals that no longer matter would only multiply the states. */
#define RESET expected = 0; at = 0; left = 0; last = 0; died = 0; announced = 0

proctype client(byte p)
{
	byte s = SLOT_OF(p);
	byte ops, expected, at, left;
	bit last, died, announced;

birth:
	{
		/* layout_lock_publish_slot() [0] */
		d_step {
			if
			:: published < s -> published = s;
			:: else
			fi
		}
	next_operation:
		if
		:: d_step { ops == OPS -> RESET; }
			goto finished;
#ifndef NO_SHARED
		:: d_step { ops < OPS -> RESET; ops++; }
			goto shared;
#endif
#ifndef NO_EXCLUSIVE
		:: d_step { ops < OPS -> RESET; ops++; }
			goto exclusive;
#endif
		:: d_step { ops < OPS && word == LOST -> RESET; ops++; }
			goto reset;
		fi;

		/* ---- layout_lock_enter(), layout_lock_leave(), layout_lock_look() ---- */
	shared:
		/* [1] relaxed, saves an attempt */
		if
		:: word != 0 -> goto look;
		:: word == 0
		fi;
#ifdef M_READER_LOOKS_FIRST
		/* [2] and [3] the wrong way round: what [1] saw has to do */
		d_step { readers[s]++; reading[p] = 1; assert(!ANY_WRITER); assert(!dirty); }
		goto inside_shared;
#endif
		/* [2] show oneself */
		readers[s]++;
		/* [3] look for a claim */
		if
		:: d_step { word == 0 -> reading[p] = 1; assert(!ANY_WRITER); assert(!dirty); }
			goto inside_shared;
#ifdef M_READER_IGNORES_DIED
		:: d_step { (word != 0 && (word & SLOT) == 0) -> reading[p] = 1; assert(!ANY_WRITER); assert(!dirty); }
			goto inside_shared;
		:: (word & SLOT) != 0
#else
		:: word != 0
#endif
		fi;
#ifdef M_NO_STEP_BACK
		goto look;
#endif
		/* [4] step back */
		d_step { last = readers[s] == 1; readers[s]--; }
		/* [5] */
		if
		:: last && (word & DRAINING) != 0 ->
			/* [6] */
			WAKE_ALL(ON_READERS + s);
		:: !last || (word & DRAINING) == 0
		fi;
		last = 0;
	look:
		/* [7] */
		if
		:: (word & SLOT) != 0
		:: (word & SLOT) == 0 && (word & (LOST | DIED)) != 0 -> goto next_operation;
		:: word == 0 -> goto shared;
		fi;
#ifdef M_ANNOUNCE_AFTER_LOOK
		/* decides to sleep, and only then announces itself, on whatever the word is by now */
		d_step { word = word | SLEEPERS; expected = word; }
#else
		/* layout_lock_announce() [8] */
		if
		:: (word & SLOT) == 0 -> goto shared;
		:: d_step { (word & SLOT) != 0 -> word = word | SLEEPERS; expected = word; }
		fi;
#endif
		/* futex_wait() [9] */
		if
		:: d_step { word == expected -> asleep[p] = ON_WORD; expected = 0; }
		:: word != expected -> goto shared;
		:: goto next_operation; /* timed out */
		fi;
		asleep[p] == AWAKE -> goto shared;

	inside_shared:
		/* layout_lock_leave() [4] */
		if
		:: d_step { reading[p] = 0; last = readers[s] == 1; readers[s]--; }
		fi;
#ifdef M_LEAVE_NEVER_WAKES
		goto next_operation;
#endif
		/* [5] */
		if
		:: last && (word & DRAINING) != 0 ->
			/* [6] */
			WAKE_ALL(ON_READERS + s);
		:: !last || (word & DRAINING) == 0
		fi;
		goto next_operation;

		/* ---- layout_lock_claim(), layout_lock_claim_fast() ---- */
	exclusive:
#ifdef M_CLAIM_AFTER_SCAN
		if
		:: readers[1] == 0
		fi;
		if
		:: readers[2] == 0
		fi;
#if SLOTS > 2
		if
		:: readers[3] == 0
		fi;
#endif
#endif
		/* [10] */
		if
		:: d_step { (word & (SLOT | LOST)) == 0 -> died = (word & DIED) != 0; word = word | s; }
			goto drain;
		:: (word & SLOT) == 0 && (word & LOST) != 0 -> goto next_operation;
		:: (word & SLOT) != 0
		fi;
		/* layout_lock_announce() [8] */
		if
		:: (word & SLOT) == 0 -> goto exclusive;
		:: d_step { (word & SLOT) != 0 -> word = word | SLEEPERS; expected = word; }
		fi;
		/* futex_wait() [9] */
		if
		:: d_step { word == expected -> asleep[p] = ON_WORD; expected = 0; }
		:: word != expected -> goto exclusive;
		:: goto next_operation; /* timed out */
		fi;
		asleep[p] == AWAKE -> goto exclusive;

		/* ---- layout_lock_first_reader(), layout_lock_announce_drain() ---- */
	drain:
#ifdef M_CLAIM_AFTER_SCAN
		goto hold;
#endif
		/* [11] how many slots there are to look at: `left` for the moment */
		if
		:: d_step { left = published; at = 1; }
		fi;
		/* [12] */
	next_slot:
		if
#ifdef M_SKIPS_OWN_SLOT
#define EMPTY (at == s || readers[at] == 0)
#else
#define EMPTY (readers[at] == 0)
#endif
		:: d_step { EMPTY && at < left -> at++; }
			goto next_slot;
		:: d_step { EMPTY && at == left -> at = 0; left = 0; }
			goto hold;
		:: d_step { !EMPTY -> expected = readers[at]; }
			goto in_the_way;
		fi;
	in_the_way:
#ifdef M_DRAINS_UNANNOUNCED
		if
		:: announced = 1;
		fi;
#endif
		if
		/* layout_lock_announce_drain() [13], then look again */
		:: d_step { !announced -> assert((word & SLOT) == s); word = word | DRAINING; announced = 1; expected = 0; }
			goto drain;
		/* futex_wait() [14] */
		:: d_step { announced && readers[at] == expected -> asleep[p] = ON_READERS + at; expected = 0; at = 0; left = 0; }
		:: d_step { announced && readers[at] != expected -> expected = 0; }
			goto drain;
		:: d_step { announced -> expected = 0; at = 0; left = 0; }
			goto unclaim; /* timed out */
		fi;
		asleep[p] == AWAKE -> goto drain;
	unclaim:
		/* layout_lock_unclaim() [15] */
		if
		:: d_step { last = (word & SLEEPERS) != 0; word = word & (LOST | DIED); announced = 0; died = 0; }
		fi;
#ifdef M_UNCLAIM_DOES_NOT_WAKE
		goto next_operation;
#endif
		if
		:: WAKE_ALL_IF(last, ON_WORD)
		:: !last
		fi;
		goto next_operation;

		/* ---- layout_lock_hold() ---- */
	hold:
#ifdef M_HOLD_AFTER_WRITING
		if
		:: d_step { assert(!ANY_WRITER && !ANY_READER); writing[p] = 1; announced = 0; }
		fi;
		dirty = 1;
		held[s] = 1;
#else
		/* [16] */
		if
		:: d_step {
			held[s] = 1;
			left = 0; at = 0; announced = 0;
			assert(!ANY_WRITER && !ANY_READER);
			writing[p] = 1;
			assert(died || !dirty);
		}
		fi;
		if
		:: dirty = 1;
		/* does not put it right: with write access LOST, with the lock right alone as it was */
		:: d_step { died -> died = 0; left = LOST; }
			goto release;
		:: d_step { died -> died = 0; left = DIED; }
			goto release;
		fi;
#endif
#ifdef M_RELEASE_BEFORE_WRITTEN
		d_step { held[s] = 0; writing[p] = 0; }
#endif
		dirty = 0;
		if
		/* layout_lock_forgive() [17] */
		:: d_step { died -> assert((word & SLOT) == s); word = word & ~DIED; told = 0; died = 0; }
		:: !died
		fi;
		if
		:: goto release;
#ifndef NO_SHARED
		:: goto downgrade;
#endif
		fi;

		/* ---- layout_lock_release() ---- */
	release:
		/* [18] */
		if
		:: d_step { held[s] = 0; writing[p] = 0; }
		fi;
		/* [19] */
		d_step { assert((word & SLOT) == s); last = (word & SLEEPERS) != 0; word = left; told = left; left = 0; }
#ifdef M_RELEASE_DOES_NOT_WAKE
		goto next_operation;
#endif
		/* [20] */
		if
		:: WAKE_ALL_IF(last, ON_WORD)
		:: !last
		fi;
		goto next_operation;

		/* ---- layout_lock_downgrade() ---- */
	downgrade:
#ifndef M_DOWNGRADE_RELEASES_FIRST
		/* [21] */
		readers[s]++;
#endif
		/* [18] */
		if
		:: d_step { held[s] = 0; writing[p] = 0; reading[p] = 1; }
		fi;
		/* [19] */
		d_step { assert((word & SLOT) == s); last = (word & SLEEPERS) != 0; word = 0; told = 0; }
#ifdef M_DOWNGRADE_RELEASES_FIRST
		readers[s]++;
#endif
		/* [20] */
		if
		:: WAKE_ALL_IF(last, ON_WORD)
		:: !last
		fi;
		goto inside_shared;

		/* ---- layout_lock_reset() ---- */
	reset:
		/* [22] */
		if
		:: d_step { word == LOST -> word = DIED; told = DIED; }
		:: word != LOST
		fi;
		goto next_operation;
	finished:
		if
		:: d_step { done[p] = 1; ops = 0; }
		fi;
	} unless {
		d_step { dead[s] -> RESET; ops = 0; }
	}
#ifdef REBIRTH
	/* The slot is given to another. */
	if
	:: d_step { dead[s] && repaired[s] -> dead[s] = 0; repaired[s] = 0; }
		goto birth;
	:: done[p]
	fi
#endif
}

#ifdef REBIRTH
#define DONE(p) skip
#else
#define DONE(p) done[p] = 1
#endif

/* SIGKILL, at any instruction. The kernel forgets that the threads sleep. */
#define DIE(p)                                              \
	if                                                  \
	:: SLOT_OF(p) == victim ->                          \
		asleep[p] = AWAKE;                          \
		DONE(p);                                    \
		reading[p] = 0;                             \
		if                                          \
		:: writing[p] -> told = DIED;               \
		:: else                                     \
		fi;                                         \
		writing[p] = 0;                             \
	:: else                                             \
	fi

#define KILL(v)                                   \
	d_step {                                  \
		kills < KILLS && !dead[v] && BUSY_SLOT(v) -> \
		victim = v;                       \
		dead[v] = 1;                      \
		kills++;                          \
		DIE(0);                           \
		DIE(1);                           \
		DIE(2);                           \
		victim = 0;                       \
	}

#ifdef ONE_SLOT
#define BUSY_SLOT(v) ((v) == 1 -> !done[0] || !done[1] : !done[2])
#else
#define BUSY_SLOT(v) (!done[(v) - 1])
#endif

proctype killer()
{
	byte victim;
	do
	:: KILL(1)
	:: KILL(2)
#if SLOTS > 2
	:: KILL(3)
#endif
	:: break /* or it stops, so that no death hides what goes wrong without */
	od
}

/* The broker repairs, one slot after the other; killed, it begins again. */
#define DIES d_step { broker_kills < BROKER_KILLS -> broker_kills++; }

#define REPAIRED(s) (!dead[s] || repaired[s])
#if SLOTS > 2
#define QUIET (done[0] && done[1] && done[2] && REPAIRED(1) && REPAIRED(2) && REPAIRED(3))
#elif CLIENTS > 2
#define QUIET (done[0] && done[1] && done[2] && REPAIRED(1) && REPAIRED(2))
#else
#define QUIET (done[0] && done[1] && REPAIRED(1) && REPAIRED(2))
#endif

proctype broker()
{
	byte s, fate;

again:
	if
	:: d_step { dead[1] && !repaired[1] -> s = 1; fate = 0; }
	:: d_step { dead[2] && !repaired[2] -> s = 2; fate = 0; }
#if SLOTS > 2
	:: d_step { dead[3] && !repaired[3] -> s = 3; fate = 0; }
#endif
	:: QUIET -> goto quiet;
	fi;
	/* layout_lock_repair() */
	if
	:: readers[s] = 0; /* [30] */
	:: DIES -> goto again;
	fi;
	if
#ifdef M_REPAIR_HELD_FIRST
	:: d_step { fate = held[s]; held[s] = 0; }
#elif defined(M_REPAIR_ALWAYS_DIED)
	:: fate = 1;
#elif defined(M_REPAIR_NEVER_DIED)
	:: fate = 0;
#else
	:: fate = held[s]; /* [31] */
#endif
	:: DIES -> goto again;
	fi;
	if
	:: d_step { /* [32] */
		if
#ifdef M_REPAIR_FORGETS_DIED
		:: (word & SLOT) == s -> word = (fate -> DIED : 0);
#else
		:: (word & SLOT) == s -> word = (fate -> DIED : 0) | (word & (DIED | LOST));
#endif
#ifdef M_REPAIR_ANY_CLAIM
		:: (word & SLOT) != 0 && (word & SLOT) != s -> word = (fate -> DIED : 0) | (word & (DIED | LOST));
#endif
		:: else
		fi;
		fate = 0;
	}
	:: DIES -> goto again;
	fi;
	if
	:: held[s] = 0; /* [33] */
	:: DIES -> goto again;
	fi;
#ifndef M_REPAIR_DOES_NOT_WAKE_WORD
	if
	:: WAKE_ALL(ON_WORD) /* [34] */
	:: DIES -> goto again;
	fi;
#endif
#ifndef M_REPAIR_DOES_NOT_WAKE_READERS
	if
	:: WAKE_ALL(ON_READERS + s) /* [35] */
	:: DIES -> goto again;
	fi;
#endif
	/* Written down, so that the next broker does not do it once more; the slot may be given out again. */
	if
	:: d_step { repaired[s] = 1; s = 0; }
	:: DIES -> goto again;
	fi;
	goto again;
quiet:
	/* Exactly nothing is left, and the past is told exactly. */
	assert(word == told);
	assert(!held[1] && !held[2] && readers[1] == 0 && readers[2] == 0);
#if SLOTS > 2
	assert(!held[3] && readers[3] == 0);
#endif
	assert(!dirty || told != 0);
}

init {
	atomic {
		run client(0);
		run client(1);
#if CLIENTS > 2
		run client(2);
#endif
		run killer();
		run broker();
	}
}
