/* SPDX-License-Identifier: MIT */
/*
 * Going on after the broker: a client, its session, the manifest and the connections between them, with a
 * crash of the daemon possible at every step, and one of the client. doc/architecture.md, "Life of a session",
 * tells the rules; tests/model/check runs this.
 *
 * The daemon's state is here twice: as its memory has it (m_...) and as the manifest has it (c_...). Committing
 * copies the one to the other, in one step: that a torn commit is none is for the tests of the manifest. A crash
 * loses the memory, whatever was sent and not read by the daemon, and what the client has not read yet or not.
 *
 * The client sends OPS messages, numbered from 1, at most WINDOW requests of them unanswered. They are
 *   MAKE   a request that gives a handle, and makes an object
 *   ADD    a request whose effect would be seen if it were done twice
 *   CLOSE  a notification: nobody answers it
 * One request may be given up by who asked (its time is over): if it was a MAKE, what it brings is closed.
 *
 * The session exists from the beginning. Somebody else tries to take it over, once: another process (OTHER), one
 * that has the number of the client's process after its death (REUSED), or the client's own process, say another
 * image of it, while the session is connected (TWIN).
 *
 * Left out: requests that fail. They change nothing, are not remembered and are simply done again, then perhaps
 * after a later one that was done; both were without an answer at that time, so neither may rely on the other.
 *
 * Parameters: OPS, WINDOW, KILLS (of the daemon), CLIENT_KILLS, CONDEMNS (connections that the daemon drops),
 * GIVE_UPS, INTRUDER, and the mutations M_....
 */
#ifndef OPS
#define OPS 3
#endif
#ifndef WINDOW
#define WINDOW 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef CLIENT_KILLS
#define CLIENT_KILLS 0
#endif
#ifndef CONDEMNS
#define CONDEMNS 0
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 0
#endif
#define LAST (OPS + GIVE_UPS)

#define BIT(n) (1 << (n))
#define UP_TO(n) ((1 << ((n) + 1)) - 2) /* bits 1 to n */
#define CLEAR(set, bits) set = (set) & (255 - (bits))

/* ---- Connections: two of the client's, by turns ---- */
#define FREE 0
#define OPEN 1
#define HUNG_UP 2 /* the client closed it, the daemon has not seen it */
#define RESET 3   /* the daemon died, the client has not seen it */
#define NONE 2    /* no connection */
byte conn[2];
bit condemned[2]; /* the daemon reads it no more */
chan up0 = [LAST + 1] of { byte };
chan up1 = [LAST + 1] of { byte };
chan down0 = [LAST + 2] of { byte, byte };
chan down1 = [LAST + 2] of { byte, byte };
#define HELLO 16 /* with the token; plus `again` */
#define RESUMED 32
#define BUSY 33
#define NO_SESSION 34
#define GOODBYE 35

#define SEND_UP(c, what)      \
	if                    \
	:: c == 0 -> up0!what \
	:: else -> up1!what   \
	fi
#define SEND_DOWN(c, what, handle)                       \
	if                                               \
	:: conn[c] != OPEN                               \
	:: conn[c] == OPEN && c == 0 -> down0!what, handle \
	:: conn[c] == OPEN && c == 1 -> down1!what, handle \
	fi
#define EMPTY(c)                                           \
	if                                                 \
	:: c == 0 ->                                       \
		do                                         \
		:: nempty(up0) -> up0?scratch;             \
		:: empty(up0) && nempty(down0) -> down0?scratch, _; \
		:: empty(up0) && empty(down0) -> break;    \
		od                                         \
	:: else ->                                         \
		do                                         \
		:: nempty(up1) -> up1?scratch;             \
		:: empty(up1) && nempty(down1) -> down1?scratch, _; \
		:: empty(up1) && empty(down1) -> break;    \
		od                                         \
	fi;                                                \
	scratch = 0

/* ---- The client ---- */
#define MAKE 1
#define ADD 2
#define CLOSE 3
byte kind[LAST + 1];
byte handle_of[LAST + 1]; /* of a CLOSE */
byte next = 1;            /* number of the next message */
byte open;                /* set of requests without an answer */
byte closing;             /* set of closes that nothing shows to be remembered */
byte given_up;            /* set of requests that nobody waits for */
byte known;               /* set of handles that the client has */
byte unwanted;            /* those of them that nobody asked for any more */
byte answered;            /* set of requests */
byte give_ups;
bit connected = 1, dead;

#define IS_IDLE (connected && next > OPS && open == 0 && unwanted == 0)

/* ---- The daemon ---- */
bit is_up = 1;
bit m_session = 1, c_session = 1;
byte m_effect, c_effect;     /* set of messages that were done */
byte m_attached, c_attached; /* set of handles */
byte m_last, c_last;         /* handle */
/* The last two requests that were done, and what they were answered with. */
byte m_done0, m_done1, c_done0, c_done1;
byte m_handle0, m_handle1, c_handle0, c_handle1;
byte memory;     /* the kernel's: set of objects that exist, by the handle that they were made with */
byte to_destroy; /* set of them that nobody is attached to */
byte m_conn;     /* of the session */
byte m_again;    /* how many of the next requests were sent before */
byte kills, client_kills, condemns;

#define OTHER 1
#define REUSED 2
#define TWIN 3
byte ask; /* who else says hello with the token */
bit asked;

#ifdef M_DONE_LIST_NOT_COMMITTED
#define COMMIT_DONE
#define LOAD_DONE m_done0 = 0; m_done1 = 0; m_handle0 = 0; m_handle1 = 0
#else
#define COMMIT_DONE c_done0 = m_done0; c_done1 = m_done1; c_handle0 = m_handle0; c_handle1 = m_handle1
#define LOAD_DONE m_done0 = c_done0; m_done1 = c_done1; m_handle0 = c_handle0; m_handle1 = c_handle1
#endif

#define COMMIT                          \
	d_step {                        \
		c_session = m_session;  \
		c_effect = m_effect;    \
		c_attached = m_attached; \
		c_last = m_last;        \
		COMMIT_DONE;            \
	}

#define LOAD                            \
	m_session = c_session;          \
	m_effect = c_effect;            \
	m_attached = c_attached;        \
	m_last = c_last;                \
	LOAD_DONE

#define FORGET                                  \
	m_session = 0;                          \
	m_effect = 0;                           \
	m_attached = 0;                         \
	m_last = 0;                             \
	m_done0 = 0;                            \
	m_done1 = 0;                            \
	m_handle0 = 0;                          \
	m_handle1 = 0;                          \
	to_destroy = 0;                         \
	m_conn = NONE;                          \
	m_again = 0;                            \
	condemned[0] = 0;                       \
	condemned[1] = 0

#define END_SESSION                           \
	m_session = 0;                        \
	to_destroy = to_destroy | m_attached; \
	m_attached = 0;                       \
	m_conn = NONE

#define DIES (kills < KILLS) -> goto crash

/* Whether the session's process lives: its number alone would not tell. */
#ifdef M_PID_ALONE
#define IS_GONE (dead && !asked)
#define IS_SAME(who) (who == TWIN || who == REUSED)
#else
#define IS_GONE dead
#define IS_SAME(who) (who == TWIN)
#endif
#ifdef M_NO_IDENTITY
#undef IS_SAME
#define IS_SAME(who) true
#endif

#ifdef M_RESUMES_CONNECTED
#define MAY_RESUME true
#else
#define MAY_RESUME (m_conn == NONE || condemned[m_conn])
#endif

#ifdef M_NO_DONE_LIST
#define IS_DONE0 false
#else
#define IS_DONE0 (m_again > 0 && m_done0 == msg)
#endif
#if defined(M_NO_DONE_LIST) || defined(M_DONE_LIST_SHORT)
#define IS_DONE1 false
#else
#define IS_DONE1 (m_again > 0 && m_done1 == msg)
#endif

proctype daemon()
{
	byte c, what, msg, handle, scratch;

loop:
	if
	:: DIES

	/* A message. What came before a hang-up may be read or not. */
	:: atomic { (conn[0] == OPEN || conn[0] == HUNG_UP) && !condemned[0] && nempty(up0) -> up0?what; c = 0; }
		goto serve;
	:: atomic { (conn[1] == OPEN || conn[1] == HUNG_UP) && !condemned[1] && nempty(up1) -> up1?what; c = 1; }
		goto serve;

	/* Somebody else wants the session. */
	:: atomic {
		ask != 0 ->
		assert(!(m_session && IS_SAME(ask) && MAY_RESUME));
		ask = 0;
	}
		goto loop;

	/* A hang-up ends the session of that connection, if it still has one. */
	:: atomic {
		conn[0] == HUNG_UP ->
		c = 0;
		EMPTY(c);
		if
#ifdef M_HANGUP_ENDS_RESUMED
		:: true -> END_SESSION;
#else
		:: m_conn == 0 -> END_SESSION;
		:: m_conn != 0
#endif
		fi;
		conn[0] = FREE;
		condemned[0] = 0;
		c = 0;
	}
		goto loop;
	:: atomic {
		conn[1] == HUNG_UP ->
		c = 1;
		EMPTY(c);
		if
#ifdef M_HANGUP_ENDS_RESUMED
		:: true -> END_SESSION;
#else
		:: m_conn == 1 -> END_SESSION;
		:: m_conn != 1
#endif
		fi;
		conn[1] = FREE;
		condemned[1] = 0;
		c = 0;
	}
		goto loop;

	/* The process is gone, whatever its connections are. */
	:: atomic { m_session && m_conn != NONE && dead -> END_SESSION; }
		goto loop;
#ifndef M_DEAD_STAY
	:: atomic { m_session && m_conn == NONE && IS_GONE -> END_SESSION; }
		goto loop;
#endif

	/* The daemon drops the connection: what it read is done, what comes is not read. */
	:: atomic {
		condemns < CONDEMNS && m_conn != NONE && conn[m_conn] == OPEN && !condemned[m_conn] ->
		condemns++;
		condemned[m_conn] = 1;
		SEND_DOWN(m_conn, GOODBYE, 0);
	}
		goto loop;

	/* Memory goes, once the manifest does not claim it any more. */
	:: to_destroy != 0 ->
		COMMIT;
		if
		:: DIES
		:: d_step { CLEAR(memory, to_destroy); to_destroy = 0; }
		fi;
		goto loop;

	/* All is said and done. */
	:: atomic {
		to_destroy == 0 && conn[0] < HUNG_UP && conn[1] < HUNG_UP && !condemned[0] && !condemned[1] && (conn[0] != OPEN || empty(up0)) &&
		(conn[1] != OPEN || empty(up1)) && (dead && (!m_session || timeout) || !dead && IS_IDLE) ->
		if
		:: dead -> assert(!m_session && m_attached == 0 && memory == 0);
		:: else -> assert(m_session && m_attached == known && memory == known && m_effect == UP_TO(next - 1));
		fi
	}
		goto finished;
	fi;

serve:
	if
	:: what >= HELLO -> goto hello;
	:: what < HELLO -> msg = what;
	fi;
	what = 0;
	handle = 0;
	/* The connection has no session any more: whoever sent this has gone. */
	if
	:: !m_session || m_conn != c -> goto served;
	:: m_session && m_conn == c
	fi;
	if
	:: d_step {
		kind[msg] == CLOSE ->
		assert((m_effect & UP_TO(msg - 1)) == UP_TO(msg - 1));
		m_effect = m_effect | BIT(msg);
		to_destroy = to_destroy | (m_attached & BIT(handle_of[msg]));
#ifdef M_DESTROYS_BEFORE_COMMIT
		CLEAR(memory, to_destroy);
#endif
		CLEAR(m_attached, BIT(handle_of[msg]));
	}
		goto served;
	/* It was done before: only the answer was lost. */
	:: d_step { kind[msg] != CLOSE && IS_DONE0 -> m_again--; handle = m_handle0; }
	:: d_step { kind[msg] != CLOSE && IS_DONE1 -> m_again--; handle = m_handle1; }
	:: d_step {
		kind[msg] != CLOSE && !IS_DONE0 && !IS_DONE1 ->
		if
		:: m_again > 0 -> m_again--;
		:: else
		fi;
		/* Nothing is done twice, and all in the order it was sent in. */
		assert((m_effect & BIT(msg)) == 0);
		assert((m_effect & UP_TO(msg - 1)) == UP_TO(msg - 1));
		m_effect = m_effect | BIT(msg);
		if
		:: kind[msg] == MAKE ->
#ifdef M_HANDLES_REUSED
			m_last = 1;
			do
			:: (m_attached & BIT(m_last)) != 0 -> m_last++;
			:: else -> break;
			od;
#else
			m_last++;
#endif
			handle = m_last;
			m_attached = m_attached | BIT(handle);
			memory = memory | BIT(handle);
		:: else
		fi;
		m_done1 = m_done0;
		m_handle1 = m_handle0;
		m_done0 = msg;
		m_handle0 = handle;
	}
	fi;
#ifdef M_SENDS_BEFORE_COMMIT
	atomic { SEND_DOWN(c, msg, handle); }
	if
	:: DIES
	:: COMMIT
	fi;
#else
	if
	:: DIES
	:: COMMIT
	fi;
	if
	:: DIES
	:: atomic { SEND_DOWN(c, msg, handle); }
	fi;
#endif
served:
	skip;
	d_step { msg = 0; handle = 0; c = 0; what = 0; }
	goto loop;

hello:
	if
	:: atomic { !m_session -> SEND_DOWN(c, NO_SESSION, 0); }
	:: atomic { m_session && !MAY_RESUME -> SEND_DOWN(c, BUSY, 0); }
	:: d_step {
		m_session && MAY_RESUME ->
		m_conn = c;
		m_again = what - HELLO;
#ifdef M_AGAIN_FORGOTTEN
		m_again = 0;
#endif
	}
		if
		:: DIES
		:: COMMIT
		fi;
		atomic { SEND_DOWN(c, RESUMED, 0); }
	fi;
	goto served;

	/* Its connections break, its memory is gone, what it had read and not committed is undone. */
crash:
	atomic {
		kills++;
		is_up = 0;
		ask = 0;
		FORGET;
		c = 0;
		do
		:: c < 2 ->
			if
			:: conn[c] == OPEN -> conn[c] = RESET;
			:: conn[c] == HUNG_UP -> conn[c] = FREE;
			:: else
			fi;
			if
			:: c == 0 ->
				do
				:: nempty(up0) -> up0?scratch;
				:: empty(up0) -> break;
				od
			:: else ->
				do
				:: nempty(up1) -> up1?scratch;
				:: empty(up1) -> break;
				od
			fi;
			c++;
		:: else -> break;
		od;
		c = 0;
		scratch = 0;
		msg = 0;
		handle = 0;
		what = 0;
	}
	/* The next one. */
	atomic {
		LOAD;
		/* What was answered is not lost, and what is claimed is there. */
		assert((answered & (255 - c_effect)) == 0 || !m_session);
		assert((known & (255 - m_attached)) == 0 || !m_session);
		assert((m_attached & (255 - memory)) == 0);
#ifndef M_LEFTOVERS_STAY
		memory = memory & m_attached;
#endif
		if
#ifdef M_AWAY_IS_GONE
		:: true -> END_SESSION;
#endif
		:: true
		fi;
		is_up = 1;
	}
	goto loop;
finished:
	skip
}

#define COUNT_OPEN ((open >> 1 & 1) + (open >> 2 & 1) + (open >> 3 & 1) + (open >> 4 & 1) + (open >> 5 & 1))
#define BEGIN(k)                             \
	kind[next] = k;                      \
	if                                   \
	:: conn[at] == OPEN -> SEND_UP(at, next); \
	:: conn[at] != OPEN                  \
	fi;                                  \
	next++

proctype client()
{
	byte at, what, handle, i, scratch;

	{
		skip;
	end_work:
		if
		:: atomic {
			next <= OPS && COUNT_OPEN < WINDOW ->
			open = open | BIT(next);
			if
			:: BEGIN(MAKE);
			:: BEGIN(ADD);
			fi
		}
			goto end_work;
		:: atomic {
			next <= LAST && known != 0 && (next <= OPS && give_ups == 0 || unwanted != 0) ->
			i = 1;
			do
			:: ((unwanted != 0 -> unwanted : known) & BIT(i)) != 0 -> break;
			:: else -> i++;
			od;
			handle_of[next] = i;
			CLEAR(known, BIT(i));
			CLEAR(unwanted, BIT(i));
#ifndef M_CLOSES_NOT_REPEATED
			closing = closing | BIT(next);
#endif
			i = 0;
			BEGIN(CLOSE);
		}
			goto end_work;
		:: atomic {
			give_ups < GIVE_UPS && next > 1 && (open & BIT(next - 1)) != 0 ->
			give_ups++;
			given_up = given_up | BIT(next - 1);
		}
			goto end_work;
		:: atomic { at == 0 && nempty(down0) -> down0?what, handle; }
			goto received;
		:: atomic { at == 1 && nempty(down1) -> down1?what, handle; }
			goto received;
		:: conn[at] == RESET -> goto lost; /* perhaps without having read what still came */
		fi;

	received:
		if
		:: what == GOODBYE -> goto lost;
		:: atomic {
			what < HELLO ->
			CLEAR(open, BIT(what));
			answered = answered | BIT(what);
			if
			:: kind[what] == MAKE -> known = known | BIT(handle);
				if
				:: (given_up & BIT(what)) != 0 -> unwanted = unwanted | BIT(handle);
				:: else
				fi
			:: else
			fi;
			/* What was sent before it has been remembered with it. */
#ifdef M_CLOSES_END_WITH_ANY_ANSWER
			closing = 0;
#else
			CLEAR(closing, UP_TO(what));
#endif
			what = 0;
			handle = 0;
		}
			goto end_work;
		fi;

	lost:
		atomic {
			what = 0;
			handle = 0;
			connected = 0;
#ifdef M_CLOSES_OLD_FIRST
			if
			:: conn[at] == OPEN -> conn[at] = HUNG_UP;
			:: else
			fi;
#endif
#ifdef M_GIVEN_UP_NOT_REPEATED
			CLEAR(open, given_up);
#endif
		}
	connect:
		atomic {
			is_up && conn[1 - at] == FREE ->
			if
			:: conn[at] == RESET ->
				EMPTY(at);
				conn[at] = FREE;
			:: else
			fi;
			i = 1 - at;
			EMPTY(i);
			conn[i] = OPEN;
#ifdef M_AGAIN_TOO_FEW
			what = HELLO + (COUNT_OPEN > 0 -> COUNT_OPEN - 1 : 0);
#else
			what = HELLO + COUNT_OPEN;
#endif
			SEND_UP(i, what);
			what = 0;
			i = 0;
		}
		if
		:: atomic { at == 1 && nempty(down0) -> down0?what, handle; }
		:: atomic { at == 0 && nempty(down1) -> down1?what, handle; }
		:: atomic {
			conn[1 - at] == RESET ->
			i = 1 - at;
			EMPTY(i);
			i = 0;
			conn[1 - at] = FREE;
		}
			goto connect;
#ifdef M_CLOSES_UNANSWERED_HELLO
		:: atomic { conn[1 - at] == OPEN -> conn[1 - at] = HUNG_UP; }
			goto connect;
#endif
		fi;
		/* A session whose process lives is never forgotten, and is nobody else's. */
		assert(what == RESUMED);
		/* All that is not settled, as it was sent: the old connection must not be served any more. */
		atomic {
			what = 0;
			if
			:: conn[at] == OPEN -> conn[at] = HUNG_UP;
			:: conn[at] == RESET ->
				EMPTY(at);
				conn[at] = FREE;
			:: else
			fi;
			at = 1 - at;
			i = 1;
#ifdef M_ORDER_LOST
			do
			:: i == next -> break;
			:: i < next ->
				if
				:: conn[at] == OPEN && (open & BIT(i)) != 0 -> SEND_UP(at, i);
				:: else
				fi;
				i++;
			od;
			i = 1;
#endif
			do
			:: i == next -> break;
			:: i < next ->
				if
#ifdef M_ORDER_LOST
				:: conn[at] == OPEN && (closing & BIT(i)) != 0 -> SEND_UP(at, i);
#else
				:: conn[at] == OPEN && ((open | closing) & BIT(i)) != 0 -> SEND_UP(at, i);
#endif
				:: else
				fi;
				i++;
			od;
			i = 0;
			connected = 1;
		}
		goto end_work;
	} unless {
		dead
	}
}

proctype killer()
{
	if
	:: atomic {
		client_kills < CLIENT_KILLS ->
		client_kills++;
		dead = 1;
		if
		:: conn[0] == OPEN -> conn[0] = HUNG_UP;
		:: conn[0] == RESET -> conn[0] = FREE;
		:: else
		fi;
		if
		:: conn[1] == OPEN -> conn[1] = HUNG_UP;
		:: conn[1] == RESET -> conn[1] = FREE;
		:: else
		fi;
	}
	:: true
	fi
}

proctype intruder()
{
	if
	:: atomic { is_up -> ask = OTHER; asked = 0; }
	:: atomic { is_up && dead -> ask = REUSED; asked = 1; }
#if CONDEMNS == 0
	:: atomic { is_up && !dead && connected && (conn[0] == OPEN || conn[1] == OPEN) -> ask = TWIN; }
#endif
	:: true
	fi
}

init {
	atomic {
		conn[0] = OPEN;
		run daemon();
		run client();
#if CLIENT_KILLS > 0
		run killer();
#endif
#ifdef INTRUDER
		run intruder();
#endif
	}
}
