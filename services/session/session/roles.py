"""Who may do what in a chat: the acting user of a call, and the role that it needs there.

The roles are ParticipantRole's numbers, of which a smaller one may more. The scripts compare them (`may` in lib.lua),
in the same step as what was asked for. See "Who may do what" in docs/subsystems/log.md.
"""

from dataclasses import dataclass
from typing import Any

from chat.errors import ErrorCode, SwitchboardError
from switchboard.chat.v1 import chat_pb2

OWNS = chat_pb2.PARTICIPANT_ROLE_OWNER
GOVERNS = chat_pb2.PARTICIPANT_ROLE_ADMIN
SPEAKS = chat_pb2.PARTICIPANT_ROLE_MEMBER
READS = chat_pb2.PARTICIPANT_ROLE_READ_ONLY


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf something is asked, and the weakest role that will do. Nobody's: the calling service answers."""

    user_id: str = ""
    weakest: "chat_pb2.ParticipantRole.ValueType" = OWNS

    @property
    def arguments(self) -> tuple[str, int]:
        """As the scripts take them."""
        return self.user_id, self.weakest

    def check_is(self, user_id: str) -> None:
        """Nobody acts as somebody else. Raises: SwitchboardError(PERMISSION_DENIED)."""
        if self.user_id and self.user_id != user_id:
            raise denied()

    def check_role(self, owner_id: str, stored_role: int | None) -> None:
        """As `may` in lib.lua, for what is read without a script. Raises: SwitchboardError(PERMISSION_DENIED)."""
        if self.user_id and self.user_id != owner_id and (stored_role is None or stored_role > self.weakest):
            raise denied()


CALLING_SERVICE = Asker()
"""Nobody acts: the service that showed its token answers for the call."""


def admitted(raw: Any) -> Any:
    """What a script gave to who asked. Raises: SwitchboardError(NOT_FOUND: it gave false, PERMISSION_DENIED)."""
    if raw is False:
        raise no_chat()
    if raw == b"denied":
        raise denied()
    return raw


def no_chat() -> SwitchboardError:
    """What asking for a chat that is not there ends in."""
    return SwitchboardError(ErrorCode.NOT_FOUND, "no such chat")


def denied() -> SwitchboardError:
    """What asking for more than one's role allows ends in."""
    return SwitchboardError(ErrorCode.PERMISSION_DENIED, "you are not allowed to do this in this chat")
