/* SPDX-License-Identifier: MIT */
/*
 * The semaphores of proto/layout/semaphore.h, with a crash possible at every step of every client and of
 * the broker's repair: counting ones, or with OWNED defined owned ones. Numbers in brackets are those in
 * semaphore.h and semaphore.c; see lock.pml for how to read it. The kernel wakes whichever sleepers it
 * likes.
 *
 * Parameters: OWNED, CLIENTS, OPS (operations of each), KILLS, BROKER_KILLS, PERMITS, POST (how many a
 * post adds at most), ADOPT (permits are handed on), and the mutations M_....
 */
#ifndef CLIENTS
#define CLIENTS 3
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef BROKER_KILLS
#define BROKER_KILLS 1
#endif
#ifndef PERMITS
#define PERMITS 1
#endif
#ifndef POST
#define POST 1
#endif

#define SLEEPERS 1

/* `value` of a counting semaphore, `gate` of an owned one. */
byte word;
#ifdef OWNED
/* Two bits of slot, and the serial number. */
#define HOLDER 3
#define SERIAL(w) ((w) & 252)
#ifdef ADOPT
#define NEXT(w) ((w) + 4)
#else
#define NEXT(w) (w) /* nobody looks at it */
#endif
byte permits[PERMITS];
/* A queue with one place, in which clients hand permits on: index and word; 0: empty. */
byte mail_index, mail;
#endif

bit asleep[3];
byte counted; /* `asleep` of the semaphore: threads that wait; the dead among them stay in it */
bit gone[4];     /* the slot's process is dead, or has let go of the semaphore */
bit repaired[4]; /* the broker has undone what it had */
bit noted[4];    /* the slot's `waits` name the semaphore, because it is about to clear SLEEPERS */
bit over[3];     /* the thread does nothing any more */
byte kills, broker_kills;

/* What each client believes to hold: the permit's index plus 1. */
byte has[3];

#ifdef OWNED
#if PERMITS > 1
#define AVAILABLE ((permits[0] & HOLDER) == 0) + ((permits[1] & HOLDER) == 0)
#else
#define AVAILABLE ((permits[0] & HOLDER) == 0)
#endif
#else
#define AVAILABLE word >> 1
#endif

#ifndef OWNED
#define HOLDS_ANY(s) 0
#elif PERMITS > 1
#define HOLDS_ANY(s) ((permits[0] & HOLDER) == s || (permits[1] & HOLDER) == s)
#else
#define HOLDS_ANY(s) ((permits[0] & HOLDER) == s)
#endif

#define ANY_ASLEEP (asleep[0] || asleep[1] || asleep[2])
#define WAKE_ALL d_step { asleep[0] = 0; asleep[1] = 0; asleep[2] = 0; }

proctype client(byte p)
{
	byte s = p + 1;
	byte ops, n, expected, i;
	bit timed, tried, waits; /* waits: it is in `counted` */

#define RESET n = 0; expected = 0; i = 0; timed = 0; tried = 0; waits = 0

	{
		ops = 0;
	next_operation:
		if
		:: d_step { ops == OPS -> RESET; }
			goto finished;
#ifndef OWNED
		:: d_step { ops < OPS -> RESET; ops++; n = 1; }
			goto post;
#if POST > 1
		:: d_step { ops < OPS -> RESET; ops++; n = 2; }
			goto post;
#endif
#endif
		:: d_step { ops < OPS -> RESET; ops++; }
			goto wait;
#ifdef ADOPT
		:: d_step { ops < OPS && mail != 0 -> RESET; ops++; }
			goto adopt;
#endif
		fi;

#ifndef OWNED

		/* ---- layout_counting_post() ---- */
	post:
#ifdef M_POST_LOOKS_FIRST
		if
		:: tried = word & SLEEPERS;
		fi;
		word = word + 2 * n;
#else
		/* [1] */
		if
		:: d_step { tried = word & SLEEPERS; word = word + 2 * n; n = 0; }
		fi;
#endif
		if
		:: d_step { tried -> tried = 0; }
			goto wake;
		:: !tried -> goto next_operation;
		fi;

		/* ---- layout_counting_take() ---- */
	wait:
		/* [2] */
		if
		:: d_step { word > 1 && !waits -> word = word - 2; }
			goto next_operation;
		:: d_step { word > 1 && waits -> word = word - 2; expected = 0; }
			goto waited;
		:: word <= 1 && waits
		/* it begins to wait [5] */
		:: d_step { word <= 1 && !waits -> waits = 1; }
			counted++;
		fi;
		/* layout_counting_announce() [3] */
#ifdef M_ANNOUNCE_AFTER_LOOK
		d_step { word = word | SLEEPERS; expected = word; }
#elif defined(M_NO_ANNOUNCE)
		expected = word;
#else
		if
		:: d_step { word <= 1 -> word = SLEEPERS; expected = SLEEPERS; }
		:: word > 1 -> goto wait;
		fi;
#endif
#else /* OWNED */
		/* ---- layout_owned_take() ---- */
	wait:
		if
		/* [10] */
		:: d_step {
			(permits[i] & HOLDER) == 0 ->
			permits[i] = NEXT(permits[i]) | s;
			assert(has[0] != i + 1 && has[1] != i + 1 && has[2] != i + 1);
			has[p] = i + 1;
			tried = 0;
			expected = 0;
		}
			goto took;
		:: d_step { (permits[i] & HOLDER) != 0 && i + 1 < PERMITS -> i++; }
			goto wait;
		:: d_step { (permits[i] & HOLDER) != 0 && i + 1 == PERMITS && !tried && waits -> i = 0; }
		/* it begins to wait [5] */
		:: d_step { (permits[i] & HOLDER) != 0 && i + 1 == PERMITS && !tried && !waits -> i = 0; waits = 1; }
			counted++;
		:: d_step { (permits[i] & HOLDER) != 0 && i + 1 == PERMITS && tried -> i = 0; }
			goto sleep;
		fi;
#ifdef M_ANNOUNCE_AFTER_LOOK
		if
		:: d_step { word = word | SLEEPERS; expected = word; tried = 1; }
			goto sleep;
		fi;
#endif
		/* layout_owned_announce() [11], and once more from the start */
		d_step { word = word | SLEEPERS; expected = word; tried = 1; }
		goto wait;
	sleep:
#endif
		/* futex_wait() [9] */
		if
		:: d_step { word == expected -> asleep[p] = 1; timed = 0; expected = 0; tried = 0; i = 0; }
		:: d_step { word == expected -> asleep[p] = 1; timed = 1; expected = 0; tried = 0; i = 0; }
		:: d_step { word != expected -> expected = 0; tried = 0; i = 0; }
			goto wait;
		fi;
end_asleep:
		if
#ifdef M_WOKEN_GIVES_UP
		:: asleep[p] == 0 && timed -> goto waited;
		:: asleep[p] == 0 && !timed -> goto wait;
#elif defined(M_UNCOUNTS_WHEN_WOKEN)
		:: d_step { asleep[p] == 0 -> counted--; }
			goto wait;
#else
		:: asleep[p] == 0 -> goto wait;
#endif
		/* the kernel says "timed out" only to those it did not wake */
		:: d_step { asleep[p] == 1 && timed -> asleep[p] = 0; }
			goto waited;
		fi;
	waited:
		/* it has taken, or given up [6] */
#ifndef M_UNCOUNTS_WHEN_WOKEN
		counted--;
#endif
		goto next_operation;

#ifdef OWNED
	took:
		if
		:: waits -> counted--;
		:: !waits
		fi;
		waits = 0;
	holds:
		if
		:: goto give;
		:: goto finished; /* lets go of the semaphore, permit and all */
#ifdef ADOPT
		/* hands it on, and does not touch it any more */
		:: d_step { mail == 0 -> mail_index = i; mail = permits[i]; has[p] = 0; }
			goto next_operation;
#endif
		fi;
		/* ---- layout_owned_give() ---- */
	give:
#ifdef M_GIVE_LOOKS_FIRST
		if
		:: tried = word & SLEEPERS;
		fi;
#endif
		/* [12] */
		if
		:: d_step {
			assert((permits[i] & HOLDER) == s);
			permits[i] = SERIAL(permits[i]);
			has[p] = 0;
			i = 0;
		}
		fi;
#ifdef M_GIVE_LOOKS_FIRST
		if
		:: d_step { tried -> tried = 0; word = word + 2; }
			goto wake;
		:: !tried -> goto next_operation;
		fi;
#endif
		/* [13] */
		if
		:: (word & SLEEPERS) != 0
		:: (word & SLEEPERS) == 0 -> goto next_operation;
		fi;
		/* [14] */
		word = word + 2;
		goto wake;

		/* ---- layout_owned_adopt() ---- */
#ifdef ADOPT
	adopt:
		/* takes it out of the queue */
		if
		:: d_step { mail != 0 -> i = mail_index; n = mail; mail = 0; mail_index = 0; }
		:: mail == 0 -> goto next_operation;
		fi;
		/* [15] */
		if
#ifdef M_ADOPT_IGNORES_SERIAL
		:: d_step {
			(permits[i] & HOLDER) != 0 ->
#else
		:: d_step {
			(permits[i] & HOLDER) != 0 && SERIAL(permits[i]) == SERIAL(n) ->
#endif
			permits[i] = SERIAL(permits[i]) | s;
			assert(has[0] != i + 1 && has[1] != i + 1 && has[2] != i + 1);
			has[p] = i + 1;
			n = 0;
		}
			goto holds;
		:: else -> goto next_operation;
		fi;
#endif

#endif

		/* ---- Waking ---- */
	wake:
#ifdef M_WAKES_NOBODY
		goto next_operation;
#endif
		/* nobody waits, whatever the bit says [7] */
		if
		:: counted == 0 -> goto next_operation;
		:: counted != 0
		fi;
		/* as many as there is to take [20] */
		n = AVAILABLE;
		/* futex_wake(): one after the other [21] */
		do
		:: d_step { n > 0 && asleep[0] -> asleep[0] = 0; n--; }
		:: d_step { n > 0 && asleep[1] -> asleep[1] = 0; n--; }
		:: d_step { n > 0 && asleep[2] -> asleep[2] = 0; n--; }
		:: n == 0 -> goto next_operation;
		:: d_step { n > 0 && !ANY_ASLEEP -> n = 0; }
			break;
		od;
#ifdef M_NEVER_CLEARS
		goto next_operation;
#endif
#ifdef M_WAKES_ALL_BEFORE_CLEARING
		if
		:: WAKE_ALL
		fi;
		word = word & 254;
		goto next_operation;
#endif
		/* layout_sleepers_clear(): note it [22], clear [23] */
#ifndef M_CLEARS_WITHOUT_NOTE
		noted[s] = 1;
#endif
		word = word & 254;
#ifndef M_CLEARS_WITHOUT_WAKING
		/* [24] */
		WAKE_ALL;
#endif
		/* layout_arena_wait_end() [25] */
#ifdef M_CLEARS_WITHOUT_NOTE
		goto next_operation;
#endif
		noted[s] = 0;
		goto next_operation;

	finished:
		/* The handle is closed. If it holds a permit, that is to the broker as if it had died. */
		if
		:: d_step {
			over[p] = 1;
			gone[s] = HOLDS_ANY(s);
			has[p] = 0;
			ops = 0;
		}
		fi;
	} unless {
		d_step { gone[s] -> RESET; ops = 0; }
	}
}

#define KILL(p)                                                  \
	d_step {                                                 \
		kills < KILLS && !over[p] && !gone[p + 1] ->     \
		kills++;                                         \
		over[p] = 1;                                     \
		gone[p + 1] = 1;                                 \
		asleep[p] = 0;                                   \
		has[p] = 0;                                      \
	}

proctype killer()
{
	do
	:: KILL(0)
	:: KILL(1)
#if CLIENTS > 2
	:: KILL(2)
#endif
	:: break
	od
}

#define DIES d_step { broker_kills < BROKER_KILLS -> broker_kills++; s = 0; i = 0; seen = 0; }

proctype broker()
{
	byte s, i, seen;

end_again:
	if
	:: d_step { gone[1] && !repaired[1] -> s = 1; }
	:: d_step { gone[2] && !repaired[2] -> s = 2; }
#if CLIENTS > 2
	:: d_step { gone[3] && !repaired[3] -> s = 3; }
#endif
	fi;
#ifdef OWNED
	/* layout_owned_return() */
	do
	:: i < PERMITS ->
		if
		:: seen = permits[i]; /* [30] */
		:: DIES -> goto end_again;
		fi;
		if
#ifdef M_RETURN_STORES
		:: d_step { (seen & HOLDER) == s -> permits[i] = SERIAL(seen); seen = 0; i++; }
#else
		:: d_step { (seen & HOLDER) == s && permits[i] == seen -> permits[i] = SERIAL(seen); seen = 0; i++; } /* [31] */
		:: d_step { (seen & HOLDER) == s && permits[i] != seen -> seen = 0; i++; }
#endif
		:: d_step { (seen & HOLDER) != s -> seen = 0; i++; }
		:: DIES -> goto end_again;
		fi
	:: d_step { i == PERMITS -> i = 0; }
		break;
	od;
#ifndef M_RETURN_DOES_NOT_KNOCK
	if
	:: seen = word & SLEEPERS; /* [13] */
	:: DIES -> goto end_again;
	fi;
	if
	:: d_step { seen != 0 -> word = word + 2; seen = 0; } /* [14] */
	:: seen == 0
	:: DIES -> goto end_again;
	fi;
#endif
#endif
	/* Whoever may be asleep: [32], layout_arena_notes() [33] */
	if
	:: seen = word & SLEEPERS;
	:: DIES -> goto end_again;
	fi;
	if
	:: seen == 0 && !noted[s]
#ifdef M_REPAIR_DOES_NOT_WAKE
	:: seen != 0 || noted[s]
#else
	:: d_step { (seen != 0 || noted[s]) -> asleep[0] = 0; asleep[1] = 0; asleep[2] = 0; } /* [34] */
#endif
	:: DIES -> goto end_again;
	fi;
	seen = 0;
	/* layout_arena_repair_slot(), after that [35] */
	if
	:: d_step { noted[s] = 0; repaired[s] = 1; s = 0; }
	:: DIES
	fi;
	goto end_again;
}

/* When nothing can move any more: nobody sleeps beside what it could take, and the dead hold nothing. */
proctype judge()
{
	byte i;

	timeout;
	d_step {
		assert(gone[1] == repaired[1] && gone[2] == repaired[2] && gone[3] == repaired[3]);
#ifndef OWNED
		assert(word <= 1 || !ANY_ASLEEP);
#else
		do
		:: i < PERMITS ->
			assert((permits[i] & HOLDER) != 0 || !ANY_ASLEEP);
			assert((permits[i] & HOLDER) == 0 || !gone[permits[i] & HOLDER]);
			i++;
		:: else -> break;
		od
#endif
	}
}

init {
	atomic {
#if CLIENTS < 3
		over[2] = 1;
#endif
		run client(0);
		run client(1);
#if CLIENTS > 2
		run client(2);
#endif
		run killer();
		run broker();
		run judge();
	}
}
