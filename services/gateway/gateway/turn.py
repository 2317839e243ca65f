"""How a message becomes a turn: appended and made due in one step by session, then claimed by a worker.

StartTurn only saves time: a turn that is due is claimed by some worker whatever becomes of us.
"""

import asyncio
import logging

from chat.errors import SwitchboardError

from gateway.ports import Begun, Models, Sessions, TurnState, Utterance

log = logging.getLogger(__name__)


class TurnStarter:
    """Begins turns. `tasks` owns what goes on in the background."""

    def __init__(self, sessions: Sessions, models: Models, tasks: asyncio.TaskGroup) -> None:
        self._sessions = sessions
        self._models = models
        self._tasks = tasks

    async def begin(self, utterance: Utterance) -> Begun:
        """Appends the message and has it answered; returns when it is stored. Raises: SwitchboardError."""
        begun = await self._sessions.begin_turn(utterance)
        if begun.state is TurnState.DUE:
            self._tasks.create_task(self._start(utterance.chat_id, begun.turn_id))
        return begun

    async def _start(self, chat_id: str, turn_id: str) -> None:
        try:
            await self._models.start_turn(chat_id, turn_id)
        except SwitchboardError as error:
            log.warning("start_turn_failed", extra={"chat_id": chat_id, "turn_id": turn_id, "code": error.code.name})
