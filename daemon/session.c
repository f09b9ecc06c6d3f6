/* SPDX-License-Identifier: MIT */
/*
 * Sessions and the death of their processes. Must not know the protocol.
 */
#include "session.h"

#include "account.h"
#include "broker.h"
#include "log.h"
#include "peer.h"
#include "remember.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void on_death(uv_poll_t *watch, int status, int events)
{
	struct session *session = watch->data;

	log_debug("process %d of user %u is gone", (int)session->identity.pid,
		  (unsigned)session->identity.uid);
	if (session->peer)
		peer_free(session->peer);
	else
		session_end(session);
}

static int watch_death(struct session *session)
{
	int result;

	if (session->identity.pidfd < 0)
		return 0;
	result = uv_poll_init(&session->broker->loop, &session->death, session->identity.pidfd);
	if (result < 0)
		return result;
	session->death.data = session;
	session_ref(session); /* of the handle, until its close callback */
	uv_poll_start(&session->death, UV_READABLE,
		      on_death); /* cannot fail: fd checked, table grown */
	return 0;
}

/* ---- Beginning ---- */

static int new_for(struct broker *broker, const struct identity *identity,
		   struct session **ret_session)
{
	struct session *session = calloc(1, sizeof(*session));
	int result;

	if (!session)
		return -ENOMEM;
	session->broker = broker;
	session->references = 1;
	session->identity = *identity;
	session->account = account_get(&broker->accounts, identity->uid);
	result = session->account ? watch_death(session) : -ENOMEM;
	if (result < 0) {
		account_put(session->account);
		free(session);
		return result;
	}
	*ret_session = session;
	return 0;
}

int session_new(struct broker *broker, struct identity *identity, struct session **ret_session)
{
	uint8_t token[SESSION_TOKEN_BYTES];
	int result;

	if (getrandom(token, sizeof(token), 0) < 0)
		return -errno;
	result = new_for(broker, identity, ret_session);
	if (result < 0)
		return result;
	memcpy((*ret_session)->token, token, sizeof(token));
	(*ret_session)->number = ++broker->next_session;
	return 0;
}

static int enter(struct session *session)
{
	HASH_ADD(hh, session->broker->sessions, token, sizeof(session->token), session);
	session->known = TABLE_HAS(session);
	return session->known ? 0 : -ENOMEM;
}

/*
 * Who is away has no connection that counts, and may stay so for as long as its process lives. A
 * new session has to wait for its return or end, or each restart would let a user have as many
 * sessions again, with all that the broker keeps for them.
 */
static bool has_room_for(const struct session *session)
{
	const struct account *account = session->account;

	return account_used(account, CHARGE_CONNECTIONS) + account_used(account, CHARGE_AWAY) <=
	       session->broker->settings.per_user[CHARGE_CONNECTIONS];
}

int session_introduce(struct session *session)
{
	int result = has_room_for(session) ? enter(session) : -EDQUOT;

	if (result == 0)
		remember_session(session->broker, session);
	return result;
}

int session_recover(struct broker *broker, const struct session *model,
		    struct session **ret_session)
{
	struct session *session;
	int result = new_for(broker, &model->identity, &session);

	if (result < 0)
		return result;
	memcpy(session->token, model->token, sizeof(session->token));
	memcpy(session->command, model->command, sizeof(session->command));
	session->number = model->number;
	session->last_handle = model->last_handle;
	result = enter(session);
	if (result < 0) {
		session->identity.pidfd = -1; /* the caller's */
		session_end(session);
		return result;
	}
	manifest_owe(&broker->manifest, OWED_END);
	account_charge(session->account, CHARGE_AWAY, 1, UINT64_MAX);
	*ret_session = session;
	return 0;
}

/* ---- Away and back ---- */

struct session *session_find(struct broker *broker, const void *token)
{
	struct session *session;

	HASH_FIND(hh, broker->sessions, token, SESSION_TOKEN_BYTES, session);
	return session;
}

bool session_is_away(const struct session *session)
{
	return !session->peer || session->peer->condemned;
}

/* Of a session that was recovered when there were no descriptors left for it. */
static void take_pidfd(struct session *session, const struct session *fresh)
{
	if (session->identity.pidfd >= 0 || fresh->identity.pidfd < 0)
		return;
	session->identity.pidfd = fcntl(fresh->identity.pidfd, F_DUPFD_CLOEXEC, 0);
	if (session->identity.pidfd < 0 || watch_death(session) == 0)
		return;
	close(session->identity.pidfd);
	session->identity.pidfd = -1;
}

void session_return(struct session *session, struct peer *peer)
{
	struct session *fresh = peer->session;

	if (session->peer)
		session->peer->session = NULL; /* dropped; its process need not be waited for */
	else
		account_uncharge(session->account, CHARGE_AWAY, 1);
	free(session->identity.groups);
	session->identity.gid = fresh->identity.gid;
	session->identity.groups = fresh->identity.groups;
	session->identity.n_groups = fresh->identity.n_groups;
	fresh->identity.groups = NULL;
	take_pidfd(session, fresh);
	session_end(fresh);
	session->peer = peer;
	peer->session = session;
	session->returns++;
	session->broker->counters.resumed++;
}

/* ---- What was done ---- */

const struct done *session_done_at(const struct session *session, unsigned index)
{
	unsigned first = session->next_done + SESSION_DONE_MAX - session->n_done;

	return &session->done[(first + index) % SESSION_DONE_MAX];
}

const struct done *session_find_done(const struct session *session, uint32_t msgid)
{
	for (unsigned i = session->n_done; i-- > 0;)
		if (session_done_at(session, i)->msgid == msgid)
			return session_done_at(session, i);
	return NULL;
}

const struct done *session_add_done(struct session *session, uint32_t msgid, uint32_t handle,
				    bool created)
{
	struct done *done;

	if (!session->done)
		session->done = calloc(SESSION_DONE_MAX, sizeof(*session->done));
	if (!session->done)
		return NULL;
	done = &session->done[session->next_done];
	*done = (struct done){ .msgid = msgid, .handle = handle, .created = created };
	session->next_done = (session->next_done + 1) % SESSION_DONE_MAX;
	if (session->n_done < SESSION_DONE_MAX)
		session->n_done++;
	return done;
}

/* ---- End ---- */

struct session *session_ref(struct session *session)
{
	session->references++;
	return session;
}

void session_unref(struct session *session)
{
	if (--session->references > 0)
		return;
	account_put(session->account);
	free(session->list_position);
	free(session->done);
	free(session);
}

static void on_death_closed(uv_handle_t *handle)
{
	session_unref(handle->data);
}

void session_end(struct session *session)
{
	struct attachment *attachment, *next;

	if (session->ended)
		return;
	session->ended = true;
	if (session->known && !session->peer)
		account_uncharge(session->account, CHARGE_AWAY, 1);
	session->peer = NULL;
	region_batch_begin(session->broker);
	region_orphan(session->broker, session);
	HASH_ITER(hh, session->attachments, attachment, next)
		region_detach(session->broker, attachment, true);
	if (session->known) {
		HASH_DEL(session->broker->sessions, session);
		forget_session(session->broker, session);
	}
	region_batch_end(session->broker);
	slots_undo_some(session->broker);
	if (uv_is_active((uv_handle_t *)&session->death))
		uv_close((uv_handle_t *)&session->death, on_death_closed);
	identity_deinit(&session->identity);
	session_unref(session);
}

void session_name(struct session *session, const char *name, size_t length)
{
	if (length > SESSION_COMMAND_MAX)
		length = SESSION_COMMAND_MAX;
	for (size_t i = 0; i < length; i++)
		session->command[i] = isprint((unsigned char)name[i]) ? name[i] : '?';
	session->command[length] = '\0';
}

struct attachment *session_attachment(struct session *session, uint64_t handle)
{
	struct attachment *attachment;
	uint32_t key = (uint32_t)handle;

	HASH_FIND(hh, session->attachments, &key, sizeof(key), attachment);
	return attachment;
}
