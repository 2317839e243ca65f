"""Arketic: chats of one or many people with an AI, over HTTP and one WebSocket a chat.

Public document: `apis/arketic.md`. Subsystem: docs/subsystems/gateway.md. Under /api/v1/chat, with a user's token:

     1 POST /chats                     4 POST /chats/{id}/messages        8 GET  /stats
     2 GET  /chats                     5 POST /chats/{id}/typing          9 GET  /langchain/health
     3 GET  /chats/{id}                6 WS   /chats/{id}/ws             10 POST /langchain/test
    12 POST /chats/{id}/ai-message     7 GET  /chats/{id}/participants   11 GET  /services/status
    POST /test/connection              POST /openai/test

Ours, for what the document presumes:

    PATCH, DELETE /chats/{id}                           change it ("archived": true takes it away), delete it
    PATCH /chats/{id}/messages/{message_id}             {"content": "..."}; `is_edited` from then on
    POST  /chats/{id}/messages/{message_id}/regenerate  another answer; the id is the message's or an answer's
    POST  /chats/{id}/messages/{message_id}/cancel      stops an answer; the id is the answer's or the message's
    POST  /chats/{id}/participants                      {"user_id": "...", "role": "MEMBER"}
    PATCH, DELETE /chats/{id}/participants/{user_id}    another role; removes somebody, or oneself
    PUT, GET, DELETE /api/v1/settings/api-keys/{provider}

    in:  {"type":"ping","timestamp":"2024-01-01T12:00:00Z"}
    out: {"type":"ai_response_chunk","message_id":"..","chat_id":"..","chunk":" to","full_content":"Happy to"}

What the document leaves open:
- A chat's first participant is its OWNER; ADMIN, MEMBER and READ_ONLY are added. Nobody else gets in, private or not:
  403 over HTTP, 1008 on the WebSocket, also for who is removed while connected, who gets nothing of what is said later.
  An archived chat is not found (404) but by who changes or deletes it. In a CHANNEL who is added is READ_ONLY unless a
  role is named: so the owner and admins write, and the others read. Who is added again keeps the role and the name that
  are not said anew. A chat has at most 1,000 participants; one more is 400.
- A change of a chat changes what it names alone, also of several at the same moment.
- `message_type` AI is refused with 403; SYSTEM is for owner and admins, and is not answered. In every type of chat each
  USER message is answered, unless `ai_model` is null. A model that nobody knows is answered by the default route, and
  shown as it was named; `ai_model_used` is the model that answered.
- Bad bodies and queries are 422 with `loc` naming the field; an empty text is 400. Endpoint 7 lists no 404: there an
  unknown chat is 403. An outage of ours is 503 everywhere, a body too large 413.
- `offset` skips the newest messages: a page is the last `limit` before them, oldest first; where these are over 16 MiB
  of text, fewer: who pages adds to `offset` as many as came, up to `message_count`. `tokens_used` of a message
  counts what was read and written. A message's status is PROCESSING, DELIVERED, FAILED or CANCELLED.
- A text is shown in growing steps while every chunk repeats it (`pacing.py`); `?full_content=false` drops the field
  and the steps. What the chunks add up to is the answer; only one that had to start again has a second
  `ai_response_start` of the same id before the chunks that count. Each answer that began ends in one
  `ai_response_complete`, whose status says how; behind FAILED, or alone when it never began, comes `ai_error`.
- The `ai_error` of what a client did wrong has an `error_code` such as "invalid_argument"; `chat_id` is null for who
  was not let in. Messages are sent over HTTP alone; the WebSocket takes `typing` and `cancel`, too. Others are told of
  somebody's typing once a second at the most, whichever way it came (over HTTP: by each replica). A client that sends
  nothing for five minutes is closed with 4408: heartbeats are against that, and get no reply. Who has been welcomed
  sees all that is said from then on.
- A whole number in `message_metadata` beyond 2^53 is refused: 422.
- `?events=all` adds `reply_to_id` and `message_metadata` to messages, and the frames `message_edited`,
  `participant_added`, `participant_removed`, `chat_updated` and `chat_deleted`. Over HTTP `?fields=all` adds the two,
  and to the two health checks each target's breaker, and until when it is left alone.
- `Idempotency-Key` makes sending, asking and regenerating repeatable.
- The "LangChain service" is our worker: see `health.py`. Its breakers open after 5 failures for 25 s. Statistics are of
  all replicas as they last reported, every few seconds.
"""

from fastapi import APIRouter

from gateway.credential import Credential
from gateway.dialect import Dialect, Services
from gateway.dialects.arketic.ai import add_ai
from gateway.dialects.arketic.chats import add_chats
from gateway.dialects.arketic.failures import shape
from gateway.dialects.arketic.keys import keys_router
from gateway.dialects.arketic.messages import add_messages
from gateway.dialects.arketic.participants import add_participants
from gateway.dialects.arketic.reading import Readings
from gateway.dialects.arketic.socket import ArketicSocket
from gateway.dialects.arketic.status import add_status
from gateway.dialects.arketic.trials import add_trials
from gateway.dialects.arketic.wire import NAME
from gateway.http import guarded_router


def dialect(services: Services) -> Dialect:
    """Arketic's routes and its WebSocket."""
    readings = Readings(services.users, services.now_s)
    router = guarded_router("/api/v1/chat", "Arketic", services.doorkeeper.user, Credential.USER_TOKEN)
    add_chats(router, services, readings)
    add_messages(router, services)
    add_participants(router, services, readings)
    add_ai(router, services)
    add_trials(router, services)
    add_status(router, services)
    both = APIRouter()
    both.include_router(router)
    both.include_router(keys_router(services))
    return Dialect(NAME, both, (ArketicSocket(services, readings),), errors={"/api/v1": shape})
