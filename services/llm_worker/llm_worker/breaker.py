"""One target's circuit breaker: `pybreaker` behind a wrapper that knows streams.

pybreaker alone does nothing on async code, counts a cancelled call as a failure (or, told not to, as a success), and
lets every waiting call through when half-open (measured, pybreaker 1.4.1). So its state machine is fed by finished
calls only: a permit is taken before the call and is told, once, how it ended. See docs/subsystems/providers.md.
"""

import traceback
from collections.abc import Callable
from enum import Enum

import pybreaker


class BreakerState(Enum):
    """Whether calls go through."""

    CLOSED = pybreaker.STATE_CLOSED
    OPEN = pybreaker.STATE_OPEN
    HALF_OPEN = pybreaker.STATE_HALF_OPEN


class _CallFailedError(Exception):
    """How pybreaker is told of a failure."""


def _fail() -> None:
    raise _CallFailedError


class Breaker:
    """Opens after `failure_threshold` failures in a row; after `reset_timeout_s` one probe at a time may close it.

    `clock` gives seconds that never go back. `changed` is called when it has opened, closed, or let a probe through.
    Not for several threads.
    """

    def __init__(
        self,
        *,
        failure_threshold: int,
        reset_timeout_s: float,
        clock: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._circuit = pybreaker.CircuitBreaker(fail_max=failure_threshold, reset_timeout=reset_timeout_s)
        self._clock = clock
        self._changed = changed
        self._opened_at = 0.0
        self._probe: Permit | None = None

    @property
    def state(self) -> BreakerState:
        """OPEN that may be probed reads as HALF_OPEN."""
        if self._circuit.current_state == pybreaker.STATE_OPEN and self.wait_s() == 0:
            return BreakerState.HALF_OPEN
        return BreakerState(self._circuit.current_state)

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._circuit.fail_counter

    def wait_s(self) -> float:
        """Seconds until the next call may be made; 0: now, unless a probe is under way."""
        if self._circuit.current_state != pybreaker.STATE_OPEN:
            return 0.0
        return max(0.0, self._opened_at + self._circuit.reset_timeout - self._clock())

    def admit(self) -> "Permit | None":
        """A permit for one call, or None: the breaker is open, or its probe is under way."""
        if self._circuit.current_state == pybreaker.STATE_CLOSED:
            return Permit(self)
        if self.wait_s() > 0 or self._probe is not None:
            return None
        if self._circuit.current_state == pybreaker.STATE_OPEN:
            self._circuit.half_open()
            self._changed()
        self._probe = Permit(self)
        return self._probe

    def _record(self, permit: "Permit", failed: bool | None) -> None:
        if permit is self._probe:
            self._probe = None
        elif self._circuit.current_state != pybreaker.STATE_CLOSED:
            # It was admitted before the breaker opened: what it says is older than that.
            return
        if failed is None:
            return
        before = self._circuit.current_state
        try:
            self._circuit.call(_fail if failed else _succeed)
        except (_CallFailedError, pybreaker.CircuitBreakerError) as told:
            # pybreaker's frames hold what they raise, and through their callers all that was asked: a circle.
            traceback.clear_frames(told.__traceback__)
            if self._circuit.current_state == pybreaker.STATE_OPEN:
                self._opened_at = self._clock()
        if self._circuit.current_state != before:
            self._changed()


def _succeed() -> None:
    return None


class Permit:
    """The right to make one call. Whoever has it says how the call ended; only the first word counts.

    Without a breaker nobody is told.
    """

    __slots__ = ("_breaker", "_told")

    def __init__(self, breaker: Breaker | None = None) -> None:
        self._breaker = breaker
        self._told = False

    def succeed(self) -> None:
        """The stream came to its clean end."""
        self._tell(failed=False)

    def fail(self) -> None:
        """The provider is unwell."""
        self._tell(failed=True)

    def drop(self) -> None:
        """The call says nothing of the provider: it was cancelled, or the request was at fault."""
        self._tell(failed=None)

    def _tell(self, failed: bool | None) -> None:
        if not self._told:
            self._told = True
            if self._breaker is not None:
                self._breaker._record(self, failed)
