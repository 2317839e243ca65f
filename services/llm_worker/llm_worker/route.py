"""Routes: which targets may answer for a model, in which order.

A route of the configuration is its models in order. A model is itself, then its provider's fallbacks. Targets without
a key are left out; what remains may be empty. A user's own keys go before the platform's: docs/subsystems/providers.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llm_worker.own_target import NO_KEYS, AnyTarget, OwnKeys, OwnTarget
from llm_worker.provider import Provider
from llm_worker.settings import Settings
from llm_worker.target import Target


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that can be asked for."""

    id: str
    provider: str
    """Of its first target with a key."""
    context_tokens: int
    """0: unknown."""


class Routes:
    """All targets, and the ways to them."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed`: called when any target's breaker has changed its state."""
        self.targets = tuple(
            Target(
                providers[model.provider],
                model,
                settings.breaker,
                configured=bool(settings.providers[model.provider].key),
                clock=clock,
                wall_clock=wall_clock,
                changed=changed,
            )
            for model in settings.models.values()
        )
        by_model = {target.model.id: target for target in self.targets}
        named = dict(settings.routes)
        for model in settings.models.values():
            fallbacks = settings.providers[model.provider].fallbacks
            named.setdefault(model.id, tuple(dict.fromkeys((model.id, *fallbacks))))
        self._default = settings.default_route
        self._platform_fallback = settings.platform_fallback
        self._whole = {name: tuple(by_model[model_id] for model_id in models) for name, models in named.items()}
        self._routes: dict[str, tuple[Target, ...]] = {
            name: tuple(target for target in targets if target.configured) for name, targets in self._whole.items()
        }

    def find(self, name: str, keys: OwnKeys = NO_KEYS) -> tuple[AnyTarget, ...] | None:
        """The targets of a route or a model ("": the default one), empty when none has a key; None: no such name.

        `keys` of a user's: the targets that they open come first, and the platform's behind them unless the operator
        forbids it (PLATFORM_FALLBACK).
        """
        name = name or self._default
        platform = self._routes.get(name)
        own = tuple(
            OwnTarget(target, keys.by_provider[target.provider.name])
            for target in self._whole.get(name, ())
            if target.provider.name in keys.by_provider
        )
        if platform is None or not own:
            return platform
        if not self._platform_fallback:
            return own
        # What was down for the user's key is likely down for ours: it comes last.
        tried = {target.provider.name for target in own}
        return (*own, *sorted(platform, key=lambda target: target.provider.name in tried))

    def offers(self) -> list[Offer]:
        """What can be asked for, routes first."""
        return [
            Offer(name, targets[0].provider.name, targets[0].model.context_tokens)
            for name, targets in self._routes.items()
            if targets
        ]
