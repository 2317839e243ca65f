"""Routes: which targets may answer for a model, in which order.

A route of the configuration is its models in order. A model is itself, then its provider's fallbacks. Targets without
a key are left out; what remains may be empty.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
    ) -> None:
        self.targets = tuple(
            Target(
                providers[model.provider],
                model,
                settings.breaker,
                configured=bool(settings.providers[model.provider].key),
                clock=clock,
                wall_clock=wall_clock,
            )
            for model in settings.models.values()
        )
        by_model = {target.model.id: target for target in self.targets}
        named = dict(settings.routes)
        for model in settings.models.values():
            fallbacks = settings.providers[model.provider].fallbacks
            named.setdefault(model.id, tuple(dict.fromkeys((model.id, *fallbacks))))
        self._default = settings.default_route
        self._routes: dict[str, tuple[Target, ...]] = {
            name: tuple(by_model[model_id] for model_id in models if by_model[model_id].configured)
            for name, models in named.items()
        }

    def find(self, name: str) -> tuple[Target, ...] | None:
        """The targets of a route or a model ("": the default one), empty when none has a key; None: no such name."""
        return self._routes.get(name or self._default)

    def offers(self) -> list[Offer]:
        """What can be asked for, routes first."""
        return [
            Offer(name, targets[0].provider.name, targets[0].model.context_tokens)
            for name, targets in self._routes.items()
            if targets
        ]
