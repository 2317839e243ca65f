"""Whether a late answer is asked of a second target, and when: within a budget, and off by default.

What a target's usual lateness is, its own first tokens say. See docs/subsystems/providers.md, "Hedging".
"""

from collections import deque

from llm_worker.settings import HedgeSettings

SAMPLES = 100
"""First tokens that are remembered: enough for a p95, few enough to forget a bad hour."""

MOST_SAVED = 10.0
"""Hedges that a quiet time saves up, for the moment in which many answers are late together."""


class FirstTokens:
    """How long a target's first tokens took, in seconds, the last `SAMPLES` of them."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=SAMPLES)

    def note(self, seconds: float) -> None:
        """One came after so long, or had not come by then."""
        self._seconds.append(seconds)

    def p95_s(self, min_samples: int) -> float | None:
        """None: too few have come."""
        if len(self._seconds) < min_samples:
            return None
        return sorted(self._seconds)[int(len(self._seconds) * 0.95)]


class Hedging:
    """This process's budget for asking twice."""

    def __init__(self, settings: HedgeSettings) -> None:
        self._settings = settings
        self._saved = 0.0

    def delay_s(self, first_tokens: FirstTokens) -> float | None:
        """An answer begins: after how long without a first token it may be asked of a second target; None: never."""
        settings = self._settings
        if not settings.enabled:
            return None
        self._saved = min(MOST_SAVED, self._saved + settings.max_share)
        return first_tokens.p95_s(settings.min_samples)

    def spend(self) -> bool:
        """Whether the budget has one more; it is spent."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
