"""A target: one model of one provider, with its breaker and, after a 429, its time of rest."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from chat.errors import Failure

from llm_worker.breaker import Breaker, Permit
from llm_worker.hedging import FirstTokens
from llm_worker.outcome import Outcome, ProviderError, Rule
from llm_worker.provider import Piece, Provider, ProviderRequest
from llm_worker.settings import BreakerSettings, ModelSettings
from llm_worker.tokens import TokenMeter


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """How a target stands now."""

    breaker: Breaker
    last_failure_at_s: float | None
    """By the wall clock."""
    cooling_until_s: float | None
    """By the wall clock; None: it is not cooling down."""


class Target:
    """Asked with the platform's key; with a user's it is an `OwnTarget`.

    `clock` gives seconds that never go back, `wall_clock` seconds since 1970. `changed`: as the breaker's,
    and called when it begins to cool down.
    """

    own_key = False

    def __init__(
        self,
        provider: Provider,
        model: ModelSettings,
        settings: BreakerSettings,
        *,
        configured: bool,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.provider = provider
        self.model = model
        self.configured = configured
        self.meter = TokenMeter()
        self.first_tokens = FirstTokens()
        self.breaker = Breaker(
            failure_threshold=settings.failure_threshold,
            reset_timeout_s=settings.reset_timeout_s,
            clock=clock,
            changed=changed,
        )
        self._changed = changed
        self._settings = settings
        self._clock = clock
        self._wall_clock = wall_clock
        self._cooling_until = 0.0
        self._last_failure_at: float | None = None

    def stream(self, request: ProviderRequest) -> AsyncGenerator[Piece, None]:
        """As the provider's."""
        return self.provider.stream(request)

    async def count_tokens(self, request: ProviderRequest) -> int | None:
        """As the provider's."""
        return await self.provider.count_tokens(request)

    def rule(self, error: ProviderError) -> Rule:
        """What a failed call asks for."""
        return error.rule

    def failure(self, error: ProviderError) -> Failure:
        """A failed call, as its attempt records it."""
        return error.failure()

    def admit(self) -> Permit | None:
        """A permit for one call, or None: it is to be left alone now. Whoever takes one must `record`, or drop it."""
        if self._cooling_until > self._clock():
            return None
        return self.breaker.admit()

    def wait_s(self) -> float:
        """When a call may be made at the earliest; a guess while a probe is under way."""
        return max(self._cooling_until - self._clock(), self.breaker.wait_s(), 0.0)

    def record(self, permit: Permit, error: ProviderError | None) -> None:
        """How the call ended; None: whole."""
        if error is None:
            permit.succeed()
            return
        if error.rule.counts:
            self._last_failure_at = self._wall_clock()
            permit.fail()
        else:
            permit.drop()
        if error.outcome is Outcome.RATE_LIMITED:
            asked = self._settings.cooldown_s if error.retry_after_s is None else error.retry_after_s
            self._cool_down(asked)
        elif error.outcome is Outcome.KEY_REFUSED:
            self._cool_down(self._settings.refused_key_cooldown_s)

    def status(self) -> TargetStatus:
        """For people."""
        left_s = self._cooling_until - self._clock()
        until = self._wall_clock() + left_s if left_s > 0 else None
        return TargetStatus(self.breaker, self._last_failure_at, until)

    def _cool_down(self, seconds: float) -> None:
        until = self._clock() + min(seconds, self._settings.max_cooldown_s)
        self._cooling_until = max(self._cooling_until, until)
        self._changed()
