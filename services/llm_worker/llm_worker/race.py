"""Two attempts at one answer: the one that begins first makes it, the other waits for its end."""

import asyncio


class Race:
    """Attempts enter at their first token."""

    def __init__(self) -> None:
        self._winner: object | None = None
        self.won: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once there is a winner."""

    @property
    def winner(self) -> object | None:
        """Whoever began first; None: nobody has."""
        return self._winner

    async def begin(self, attempt: object) -> None:
        """Returns for the first alone; another is to be cancelled in it."""
        if self._winner is None:
            self._winner = attempt
            self.won.set_result(None)
        elif self._winner is not attempt:
            await asyncio.get_running_loop().create_future()
