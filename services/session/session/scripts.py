"""The Lua scripts, by name. What each takes and returns stands in its own head."""

from session.redis_link import Script

APPEND = Script("append")
BEGIN_TURN = Script("begin_turn")
CHANGE_CHAT = Script("change_chat")
CLAIM_TURN = Script("claim_turn")
CLOSE_SESSION = Script("close_session")
CREATE_CHAT = Script("create_chat")
DELETE_CHAT = Script("delete_chat")
END_TURN = Script("end_turn")
POLL = Script("poll")
READ_LOG = Script("read_log")
READ_MESSAGES = Script("read_messages")
READ_TEXT = Script("read_text")
RENEW = Script("renew")
TOUCH_CHAT = Script("touch_chat")
