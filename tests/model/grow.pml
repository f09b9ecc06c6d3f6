/* SPDX-License-Identifier: MIT */
/*
 * Growing beyond the capacity, daemon/growth.c, client/grow.c, client/follow.c: nothing that is written under
 * the lock is lost, and who reads without it finds neither old values nor the zeros of a mapping that was let
 * go of, whoever dies at any step, also the broker, and whoever loses patience with it. A grower and a writer
 * of different processes under the lock, and two threads of a third that read. The lock is what lock.pml has
 * shown it to be. Of the data there is one value, which everybody who has the lock makes one more; 0 stands for
 * memory that nobody has written. Segments are called by their number. See lock.pml for how to read it.
 *
 * A request that was not answered when the broker dies is repeated to the next one, as resume.pml has shown.
 */
#ifndef OPS
#define OPS 2
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef READS
#define READS 1
#endif
#ifndef READERS
#define READERS 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef BROKER_KILLS
#define BROKER_KILLS 1
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 1
#endif

#define NUMBERS 6

#define NOTHING 0
#define GROW 1
#define GROWN 2
#define YES 1
#define NO 2

byte value[NUMBERS]; /* of a segment */
byte truth = 1;      /* what it should be */

#define WRITER 1
#define GROWER 2
byte holder;  /* of the lock */
byte writing; /* the page's count; odd: held */
byte shown;   /* the page's generation */

/* The broker: what it remembers, and what it does not. */
byte record;
bit done;     /* recorded: the last region.grown was carried out */
bit up = 1, busy;
byte pending, newest;
byte epoch;   /* segments that were not the region's go with the broker */

/* The grower's session: one request at a time, and a broker that takes them in order. */
byte request, answer, told;

bit dead, repaired, writer_done, grower_done;
byte kills, broker_kills, give_ups, readers_done;

#define LOCK(who) d_step { holder == 0 -> holder = who; writing = writing | 1; }
#define UNLOCK(who) writing = (writing | 1) + 1; d_step { assert(holder == who); holder = 0; }
/* region.data: the broker serves one request after the other. */
#define ASK(mine) d_step { up && !busy -> mine = record; }
#define WRITE(mine) d_step { assert(value[mine] == truth); value[mine] = value[mine] + 1; truth++; }

proctype writer()
{
	byte ops, seen, mine, now;

	do
	:: ops == WRITES -> break;
	:: d_step { ops < WRITES -> ops++; now = 0; }
#ifdef M_LOOKS_BEFORE_LOCKING
		now = shown;
		if
		:: now != seen -> ASK(mine);
			seen = now;
		:: now == seen
		fi;
		LOCK(WRITER);
#else
		LOCK(WRITER);
		now = shown;
		if
		:: now != seen -> ASK(mine);
			seen = now;
		:: now == seen
		fi;
#endif
		WRITE(mine);
		UNLOCK(WRITER);
	od;
	writer_done = 1;
}

proctype grower()
{
	byte ops, seen, mine, now, got, since, copied;
	bit unsettled;

	{
		ops = 0;
	next_operation:
		if
		:: ops == OPS -> goto finished;
		:: d_step { ops < OPS -> ops++; now = 0; got = 0; copied = 0; }
		fi;
		LOCK(GROWER);
	look:
		/* region_follow(); of an earlier region.grown it is known then what came of it. */
		now = shown;
		if
#ifdef M_GOES_ON_UNSETTLED
		:: now != seen && !unsettled -> ASK(mine);
			seen = now;
		:: now == seen || unsettled
#else
		:: now != seen || unsettled -> d_step { up && !busy && request == NOTHING -> mine = record; answer = NOTHING; unsettled = 0; }
			seen = now;
		:: now == seen && !unsettled
#endif
		fi;
		if
		:: got != 0 || unsettled -> goto write;
		:: got == 0 && !unsettled
		fi;
	begin:
		skip;
		d_step { request == NOTHING -> request = GROW; answer = NOTHING; }
		d_step { answer != NOTHING -> got = (answer == YES -> pending : 0); since = epoch; }
		if
		:: got == 0 -> goto write;
		:: got != 0
		fi;
#ifdef M_COPIES_BEFORE_LOCKING
		/* As if it had been: another has written since. */
		copied = truth;
		UNLOCK(GROWER);
		LOCK(GROWER);
#else
		copied = value[mine];
#endif
#ifdef M_TELLS_BEFORE_COPYING
		d_step { request = GROWN; answer = NOTHING; told = writing; }
#endif
		/* Into a segment that may be nobody's by now. */
		d_step {
			if
			:: since == epoch -> value[got] = copied;
			:: since != epoch
			fi;
			copied = 0;
		}
#ifndef M_TELLS_BEFORE_COPYING
		d_step { request = GROWN; answer = NOTHING; told = writing; }
#endif
		if
		:: d_step { answer == YES -> mine = got; seen = shown; }
		:: answer == NO -> goto begin; /* it has forgotten */
		:: d_step { answer == NOTHING && give_ups < GIVE_UPS -> give_ups++; unsettled = 1; }
			/* It may give the lock back, or go on. */
			if
			:: goto unlock;
			:: goto look;
			fi;
		fi;
	write:
		skip;
		WRITE(mine);
	unlock:
		UNLOCK(GROWER);
		goto next_operation;
	finished:
		grower_done = 1;
	} unless {
		dead
	}
}

proctype killer()
{
	do
	:: d_step { kills < KILLS && !dead && !grower_done -> kills++; dead = 1; }
	:: break
	od
}

#define DIES d_step { broker_kills < BROKER_KILLS -> broker_kills++; up = 0; }

proctype broker()
{
	byte number;

end_serve:
	if
	/* growth_begin() */
	:: d_step { request == GROW && holder == GROWER && newest + 1 < NUMBERS && shown + 1 < NUMBERS ->
#ifndef M_NUMBERS_COME_AGAIN
			newest = (newest < shown -> shown : newest);
#endif
			newest = (newest < record -> record : newest) + 1;
			pending = newest; value[pending] = 0; done = 0; request = NOTHING; answer = YES; }
		goto end_serve;
	:: d_step { request == GROW && (holder != GROWER || newest + 1 >= NUMBERS || shown + 1 >= NUMBERS) ->
			done = 0; request = NOTHING; answer = NO; }
		goto end_serve;
	/* growth_check() */
	:: d_step { request == GROWN && done -> request = NOTHING; answer = YES; }
		goto end_serve;
	:: d_step { request == GROWN && !done && pending == 0 -> request = NOTHING; answer = NO; }
		goto end_serve;
	:: d_step { request == GROWN && !done && pending != 0 -> busy = 1; }
	/* The grower's process is gone, and what it has begun goes with it; what it has sent may still come. */
	:: d_step { dead && !repaired && request != NOTHING -> skip; }
		goto end_serve;
	:: d_step { dead && !repaired -> repaired = 1; request = NOTHING; pending = 0; holder = (holder == GROWER -> 0 : holder); }
		goto end_serve;
	:: DIES -> goto down;
	fi;

#if !defined(M_CHECKS_BEFORE_SHOWING) && !defined(M_RECORD_BEFORE_PAGE)
	if
	:: shown = pending;
	:: DIES -> goto down;
	fi;
#endif
	if
#ifdef M_IGNORES_LOCK
	:: true
#elif defined(M_IGNORES_WRITING)
	:: holder == GROWER
	:: d_step { holder != GROWER -> busy = 0; request = NOTHING; answer = NO; }
		goto end_serve;
#else
	:: holder == GROWER && told == writing
	:: d_step { holder != GROWER || told != writing -> busy = 0; request = NOTHING; answer = NO; }
		goto end_serve;
#endif
	fi;
	/* growth_end() */
#ifdef M_CHECKS_BEFORE_SHOWING
	shown = pending;
#endif
	if
	:: d_step { record = pending; done = 1; }
	:: DIES -> goto down;
	fi;
#ifdef M_RECORD_BEFORE_PAGE
	if
	:: shown = pending;
	:: DIES -> goto down;
	fi;
#endif
	if
	:: d_step { pending = 0; busy = 0; request = NOTHING; answer = YES; }
	:: DIES -> goto down;
	fi;
	goto end_serve;

	/* finish() of the next one; the page never shows a lower number than before */
down:
	skip;
	d_step { pending = 0; newest = record; busy = 0; epoch++; number = 0; }
#ifdef M_PAGE_GOES_BACK
	shown = record;
#else
	if
	:: d_step { shown < record -> shown = record; }
	:: shown >= record
	fi;
#endif
	up = 1;
	goto end_serve;
}

/* ---- A process that reads without the lock ---- */

byte data, capacity, seen;  /* of the handle: the segment that is mapped, and which one is as long */
bit zeroed[NUMBERS];        /* mappings that were let go of */
bit following;

proctype reader()
{
	byte reads, floor, is_seen, length, at, read, now;

	do
	:: reads == READS -> break;
	/* Whoever begins now finds at least what has been written by now. */
	:: d_step { reads < READS -> reads++; floor = truth; }
	again:
		/* region_check_fast() */
		is_seen = seen;
#ifdef M_LOADS_DATA_FIRST
		at = data;
		length = capacity;
#else
		length = capacity;
		at = data;
#endif
		now = shown;
		if
		:: now != is_seen -> goto follow;
		:: now == is_seen
#ifdef HOSTILE
		:: true /* whoever may write the page makes it say what it likes */
#endif
		fi;
		/* A larger number is a longer segment. */
		assert(length <= at);
		read = (zeroed[at] -> 0 : value[at]);
		/* region_after_fast() */
#ifndef M_DOES_NOT_LOOK_AGAIN
		if
		:: data != at -> goto again;
		:: data == at
		fi;
#endif
#ifndef HOSTILE
		assert(read >= floor);
#endif
		d_step { is_seen = 0; length = 0; at = 0; read = 0; now = 0; floor = 0; }
	od;
	readers_done++;
	goto end;

	/* region_follow(), region_move(), mapped_supersede() */
follow:
	skip;
	d_step { !following -> following = 1; is_seen = 0; length = 0; }
	if
	:: shown == seen -> goto followed;
	:: shown != seen
	fi;
#ifdef M_LOOKS_AFTER_ASKING
	ASK(at);
	now = shown;
#else
	now = shown;
	ASK(at);
#endif
	if
	:: at == data -> goto stay;
	:: at != data
	fi;
	length = data;
#ifdef M_ZEROS_FIRST
	zeroed[length] = 1;
#endif
#ifdef M_SEEN_FIRST
	seen = now;
#endif
#ifdef M_CAPACITY_FIRST
	capacity = at;
	data = at;
#else
	data = at;
	capacity = at;
#endif
#ifndef M_ZEROS_FIRST
	zeroed[length] = 1;
#endif
stay:
	seen = now;
followed:
	skip;
	d_step { following = 0; at = 0; length = 0; now = 0; }
	goto again;
end:
	skip;
}

init {
	atomic {
		value[0] = 1;
		run writer();
		run grower();
		run killer();
		run broker();
#if READERS > 0
		run reader();
#endif
#if READERS > 1
		run reader();
#endif
	}
}
