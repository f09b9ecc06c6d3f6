/* SPDX-License-Identifier: MIT */
/*
 * Snapshots, proto/layout/snapshot.h: what a reader without the lock takes for untorn is untorn, also
 * beside writers that die at any step and a broker that does. The lock is here what lock.pml has shown it
 * to be: claims exclude each other, and the broker tells deaths in `held` from others. Data are two bytes
 * that a writer makes equal. Numbers in brackets are those in snapshot.h; see lock.pml for how to read it.
 *
 * spin knows sequential consistency alone. The mutations that move one access past another show what each
 * of the orders in snapshot.h is for.
 */
#ifndef OPS
#define OPS 2
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef BROKER_KILLS
#define BROKER_KILLS 1
#endif
#ifndef READS
#define READS 1
#endif

#define CONSISTENT 0
#define OWNER_DIED 1
#define NOT_RECOVERABLE 2

#define SLOT 3
#define LOST 4
#define DIED 8
byte word;
bit held[3];

byte writing; /* the sequence */
byte consistency;
byte first, second; /* the data */

bit dead[3], repaired[3], done[3];
byte kills, broker_kills;
bit reader_done;

proctype writer(byte s)
{
	byte ops;
	bit died;

birth:
	{
		died = 0;
	next_operation:
		if
		:: ops == OPS -> goto finished;
		/* layout_lock_claim() */
		:: d_step { ops < OPS && (word & (SLOT | LOST)) == 0 -> died = (word & DIED) != 0; word = word | s; ops++; }
		/* locker_reset(): the page, then the word [8] */
		:: d_step { ops < OPS && word == LOST -> ops++; }
			if
			:: d_step { consistency == NOT_RECOVERABLE -> consistency = OWNER_DIED; }
#ifdef M_RESET_STORES
			:: d_step { consistency != NOT_RECOVERABLE -> consistency = OWNER_DIED; }
#else
			:: consistency != NOT_RECOVERABLE
#endif
			fi;
			if
			:: d_step { word == LOST -> word = DIED; }
			:: word != LOST
			fi;
			goto next_operation;
		fi;
		/* layout_lock_hold() */
#ifndef M_WRITING_BEFORE_HELD
		held[s] = 1;
#endif
		/* layout_snapshot_write() [1] */
#ifdef M_WRITES_BEFORE_SEQUENCE
		first = 1 - first;
#endif
#ifdef M_SEQUENCE_ADDS
		writing = writing + 1;
#elif !defined(M_NO_SEQUENCE)
		writing = writing | 1;
#endif
#ifdef M_WRITING_BEFORE_HELD
		first = 1 - first;
		held[s] = 1;
#endif
		/* take(): what a dead one said of a lock that it did not come to losing */
		if
		:: d_step { died -> consistency = OWNER_DIED; }
		:: !died
		fi;
		if
		:: died -> goto leave_it;
		:: true
		fi;
		/* [2] the caller writes */
#if !defined(M_WRITES_BEFORE_SEQUENCE) && !defined(M_WRITING_BEFORE_HELD)
		first = 1 - first;
#endif
#ifdef M_WRITTEN_BEFORE_LAST_WRITE
		writing = (writing | 1) + 1;
#endif
		second = first;
		/* locker_mark_consistent() */
		if
		:: d_step { died -> consistency = CONSISTENT; }
			d_step { word = word & ~DIED; died = 0; }
		:: !died
		fi;
		/* layout_snapshot_written() [3] */
#ifdef M_SEQUENCE_ADDS
		writing = writing + 1;
#elif !defined(M_WRITTEN_BEFORE_LAST_WRITE) && !defined(M_NO_SEQUENCE)
		writing = (writing | 1) + 1;
#endif
		/* layout_lock_release() */
		held[s] = 0;
		word = 0;
		goto next_operation;

		/* It gives the lock back without putting the data right: release_died() [7] */
	leave_it:
		consistency = NOT_RECOVERABLE;
		writing = (writing | 1) + 1;
		held[s] = 0;
		d_step { word = LOST; died = 0; }
		goto next_operation;
	finished:
		done[s] = 1;
	} unless {
		dead[s]
	}
	/* The slot is given to another. */
	if
	:: d_step { dead[s] && repaired[s] -> dead[s] = 0; repaired[s] = 0; }
		goto birth;
	:: done[s]
	fi
}

#define KILL(s) d_step { kills < KILLS && !dead[s] && !done[s] -> kills++; dead[s] = 1; }

proctype killer()
{
	do
	:: KILL(1)
	:: KILL(2)
	:: break
	od
}

#define DIES d_step { broker_kills < BROKER_KILLS -> broker_kills++; }

proctype broker()
{
	byte s;

end_again:
	if
	:: d_step { dead[1] && !repaired[1] -> s = 1; }
	:: d_step { dead[2] && !repaired[2] -> s = 2; }
	:: done[1] && done[2] -> goto quiet;
	fi;
	/* daemon/lock.c, undo(): first the page [9], then the word */
#ifdef M_BROKER_WORD_FIRST
	if
	:: d_step { (word & SLOT) == s -> word = (word & DIED) | (held[s] -> DIED : 0); }
	:: (word & SLOT) != s
	:: DIES -> goto end_again;
	fi;
	if
	:: held[s] -> consistency = OWNER_DIED;
	:: !held[s]
	:: DIES -> goto end_again;
	fi;
#else
	if
#ifndef M_BROKER_LEAVES_PAGE
	:: d_step { (word & SLOT) == s && held[s] -> consistency = OWNER_DIED; }
#else
	:: (word & SLOT) == s && held[s]
#endif
	:: (word & SLOT) != s || !held[s]
	:: DIES -> goto end_again;
	fi;
	if
	:: d_step { (word & SLOT) == s -> word = (word & DIED) | (held[s] -> DIED : 0); }
	:: (word & SLOT) != s
	:: DIES -> goto end_again;
	fi;
#endif
	if
	:: held[s] = 0;
	:: DIES -> goto end_again;
	fi;
	if
	:: d_step { repaired[s] = 1; s = 0; }
	:: DIES
	fi;
	goto end_again;
quiet:
	/* Page and word agree: snapshots work exactly if locking does. */
	assert((word == 0) == (consistency == CONSISTENT));
	assert(word != 0 || (writing & 1) == 0);
}

proctype reader()
{
	byte sequence, one, two, reads;

again:
	do
	:: reads == READS -> break;
	:: d_step { reads < READS -> reads++; sequence = 0; one = 0; two = 0; }
#ifdef M_LOOKS_AT_PAGE_FIRST
		if
		:: consistency == CONSISTENT
		:: consistency != CONSISTENT -> goto again;
		fi;
#endif
		/* layout_snapshot_begin() [4] */
#ifdef M_COPIES_BEFORE_BEGIN
		one = first;
#endif
		if
#ifdef M_BEGIN_IGNORES_ODD
		:: sequence = writing;
#else
		:: d_step { (writing & 1) == 0 -> sequence = writing; }
		:: (writing & 1) != 0 -> goto again;
#endif
		fi;
		/* try_snapshot() [5] */
#ifndef M_LOOKS_AT_PAGE_FIRST
		if
		:: consistency == CONSISTENT
		:: consistency != CONSISTENT -> goto again;
		fi;
#endif
#ifndef M_COPIES_BEFORE_BEGIN
		one = first;
#endif
		/* layout_snapshot_end() [6] */
#ifndef M_COPIES_AFTER_END
		two = second;
#endif
		if
#ifndef M_END_DOES_NOT_LOOK
		:: writing != sequence -> goto again;
		:: writing == sequence
#else
		:: true
#endif
		fi;
#ifdef M_COPIES_AFTER_END
		two = second;
#endif
		assert(one == two);
	od
}

init {
	atomic {
		run writer(1);
		run writer(2);
		run reader();
		run killer();
		run broker();
	}
}
