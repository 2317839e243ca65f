"""When a call that failed is made again, and how long that is waited for.

Retries of *providers'* calls are the worker's alone. What is repeated here is the way to a worker: a call that no
worker took, so that no provider was asked. One that broke off on the way is repeated too, as long as nothing of it was
read; its worker ends the provider's call when the connection goes. So the two layers never multiply, unless
`when_providers_fail` asks for it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from switchboard_client.errors import ErrorCode, SwitchboardError, closed

log = logging.getLogger("switchboard_client")

ON_THE_WAY = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.OVERLOADED})
"""No provider was asked: nobody took the call, the worker was full, or it could not look up the user's keys."""
AT_A_PROVIDER = frozenset({ErrorCode.PROVIDER_UNAVAILABLE, ErrorCode.RATE_LIMITED})


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is made, and after what waits: random ones, up to `base_s`, doubled with each, `cap_s` at most.

    Where the worker says how long (RetryInfo), that is waited for and the random time added, lest all come back at
    once. No wait is begun that would not end before the call's deadline.
    """

    max_attempts: int = 3
    """1: nothing is repeated."""
    base_s: float = 0.5
    cap_s: float = 4.0
    reach_s: float = 3.0
    """How long, before each repetition, a connection is waited for. gRPC's own back-off from connecting goes up to 2 s,
    and a call made within it fails untried: without this, all attempts could be over before one was made."""
    when_providers_fail: bool = False
    """Repeat also what the worker could get from no provider (PROVIDER_UNAVAILABLE, RATE_LIMITED). The worker has
    asked each of them up to twice by then, and does so again for every repetition."""

    def wait_s(self, error: SwitchboardError, attempts: int, left_s: float, chance: float) -> float | None:
        """The wait before the next attempt; None: there is none. `chance`: a random number from 0 to 1."""
        repeated = ON_THE_WAY | AT_A_PROVIDER if self.when_providers_fail else ON_THE_WAY
        if error.code not in repeated or attempts >= self.max_attempts:
            return None
        wait_s = chance * min(self.cap_s, self.base_s * 2 ** (attempts - 1)) + (error.retry_after_s or 0)
        return wait_s if wait_s < left_s else None


class Tries:
    """The attempts of one call within its deadline."""

    def __init__(
        self,
        retries: Retries,
        timeout_s: float,
        *,
        connected: Callable[[float], Awaitable[bool]],
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """`connected` waits so many seconds for a worker to be connected to; False: the client is closed."""
        self._retries = retries
        self._connected = connected
        self._clock = clock
        self._random = random
        self._deadline = clock() + timeout_s
        self._attempts = 1

    @property
    def left_s(self) -> float:
        """Until the deadline; an attempt's own."""
        return max(0.0, self._deadline - self._clock())

    async def pause(self, error: SwitchboardError) -> None:
        """Returns when the call may be made again. Raises: `error`, when it may not; CANCELLED, of a closed client."""
        wait_s = self._retries.wait_s(error, self._attempts, self.left_s, self._random())
        if wait_s is None:
            raise error
        log.info("call repeated", extra={"code": error.code, "attempt": self._attempts, "wait_s": wait_s})
        self._attempts += 1
        await asyncio.sleep(wait_s)
        if not await self._connected(min(self._retries.reach_s, self.left_s)):
            raise closed()
