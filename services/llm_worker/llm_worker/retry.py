"""When a target is asked again, and how often: the one place of this system in which a provider's call is repeated.

Pure: time and chance are arguments. It knows neither breakers nor targets, only their places in the route.
See docs/subsystems/providers.md.
"""

from collections.abc import Callable

from llm_worker.outcome import Again
from llm_worker.settings import RetrySettings

LEAST_USEFUL_S = 1.0
"""What must be left of the deadline behind a wait: less is hardly an answer's first token."""

MARGIN_S = 0.01
"""Behind a Retry-After, so that no timer's rounding asks too early."""


class Retries:
    """The attempts of one answer along a route of `count` targets. `random` gives numbers from 0 to 1."""

    def __init__(
        self,
        settings: RetrySettings,
        count: int,
        *,
        deadline: float,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._asked = [0] * count
        self._deadline = deadline
        self._clock = clock
        self._random = random

    def note(self, at: int) -> None:
        """The target at this place is asked."""
        self._asked[at] += 1

    @property
    def left(self) -> int:
        """Attempts that may still be made."""
        return self._settings.max_attempts - sum(self._asked)

    def may_ask(self, at: int) -> bool:
        """Whether the bounds allow it."""
        return self.left > 0 and self._asked[at] < self._settings.max_attempts_per_target

    def wait_s(self, at: int, again: Again, retry_after_s: float | None) -> float | None:
        """How long to wait before the same target is asked again; None: it is not to be. `retry_after_s`: what the
        provider asked for.
        """
        settings = self._settings
        if again is Again.NEVER or not self.may_ask(at):
            return None
        if again is not Again.LAST and self.left <= self._asked[at + 1 :].count(0):
            # A retry must not take the attempt of a target that was not asked at all.
            return None
        if retry_after_s is not None:
            if retry_after_s > settings.retry_after_max_s:
                return None
            wait_s = retry_after_s + MARGIN_S + self._random() * settings.backoff_base_s
        elif again is Again.WHEN_TOLD:
            return None
        else:
            # Full jitter: those who were thrown back together do not come back together.
            # Source: aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter.
            most = settings.backoff_base_s * 2 ** (self._asked[at] - 1)
            wait_s = self._random() * min(settings.backoff_cap_s, most)
        return wait_s if self._clock() + wait_s + LEAST_USEFUL_S <= self._deadline else None
