"""Finds the dialects: every module of `gateway.dialects` that has a function `dialect(services) -> Dialect`."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import cast

from gateway import dialects
from gateway.dialect import Dialect, Services


def find_dialects() -> dict[str, Callable[[Services], Dialect]]:
    """What makes each dialect, by its module's name, in the order of the names."""
    found: dict[str, Callable[[Services], Dialect]] = {}
    for module in sorted(pkgutil.iter_modules(dialects.__path__), key=lambda module: module.name):
        maker = getattr(importlib.import_module(f"{dialects.__name__}.{module.name}"), "dialect", None)
        if maker is not None:
            found[module.name] = cast("Callable[[Services], Dialect]", maker)
    return found
