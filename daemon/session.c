/* SPDX-License-Identifier: MIT */
/*
 * Sessions and the death of their processes. Must not know the protocol.
 */
#include "session.h"

#include "account.h"
#include "broker.h"
#include "log.h"
#include "peer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static void on_death(uv_poll_t *watch, int status, int events)
{
	struct session *session = watch->data;

	log_debug("process %d of user %u is gone", (int)session->identity.pid,
		  (unsigned)session->identity.uid);
	peer_free(session->peer);
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

int session_new(struct broker *broker, struct identity *identity, struct account *account,
		struct session **ret_session)
{
	struct session *session = calloc(1, sizeof(*session));
	int result;

	if (!session)
		return -ENOMEM;
	session->broker = broker;
	session->references = 1;
	session->identity = *identity;
	if (getrandom(session->token, sizeof(session->token), 0) < 0)
		result = -errno;
	else
		result = watch_death(session);
	if (result < 0) {
		free(session);
		return result;
	}
	session->account = account_get(&broker->accounts, identity->uid);
	*ret_session = session;
	return 0;
}

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
	session->peer = NULL;
	region_batch_begin(session->broker);
	region_orphan(session->broker, session);
	HASH_ITER(hh, session->attachments, attachment, next)
		region_detach(session->broker, attachment, true);
	region_batch_end(session->broker);
	slots_undo_some(session->broker);
	if (session->identity.pidfd >= 0)
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
