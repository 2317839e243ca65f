"""A target asked with a user's own key: beside the platform's, and apart from what the platform knows of itself.

Its calls touch no breaker and cool nothing down, and no breaker holds them back: what one user's key meets says nothing
of ours. See docs/subsystems/providers.md, "Users' own keys".
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from chat.errors import Failure

from llm_worker.breaker import Permit
from llm_worker.outcome import OWN_KEY_RULES, ProviderError, Rule
from llm_worker.provider import Piece, ProviderRequest
from llm_worker.target import Target


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """One user's keys, for the length of one answer. Never logged: it shows nothing of them."""

    by_provider: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """By the provider's name in the configuration."""


NO_KEYS = OwnKeys()


class OwnTarget:
    """`target`, asked with `key`."""

    __slots__ = ("_key", "_target", "first_tokens", "meter", "model", "provider")

    own_key = True

    def __init__(self, target: Target, key: str) -> None:
        self._target = target
        self._key = key
        self.provider = target.provider
        self.model = target.model
        self.meter = target.meter
        self.first_tokens = target.first_tokens

    def stream(self, request: ProviderRequest) -> AsyncGenerator[Piece, None]:
        """As the provider's."""
        return self.provider.stream(request, self._key)

    async def count_tokens(self, request: ProviderRequest) -> int | None:
        """As the provider's."""
        return await self.provider.count_tokens(request, self._key)

    def rule(self, error: ProviderError) -> Rule:
        """What a failed call asks for."""
        return OWN_KEY_RULES.get(error.outcome, error.rule)

    def failure(self, error: ProviderError) -> Failure:
        """A failed call, as its attempt records it and its user is told."""
        rule = self.rule(error)
        return Failure(rule.code, rule.sentence.format(provider=self.provider.name), error.retry_after_s)

    def admit(self) -> Permit:
        """Always: a permit of which nobody is told."""
        return Permit()

    def wait_s(self) -> float:
        """Nothing holds it back."""
        return 0.0

    def record(self, permit: Permit, error: ProviderError | None) -> None:
        """The end of the call, which counts nowhere."""


AnyTarget = Target | OwnTarget
"""What an answer may be made with."""
