"""Reads settings from environment variables, and says which variable is wrong and how.

Each service reads its variables in exactly one `settings.py`, through this; nobody else touches `os.environ`.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit


class SettingError(ValueError):
    """A variable is missing or malformed; the message names it and says what it should be."""


class Environment:
    """One process's variables. An empty value counts as unset: compose files and shells make those by accident."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default the variable must be set. Raises: SettingError."""
        value = self._variables.get(name, "").strip()
        if value:
            return value
        if default is None:
            raise SettingError(f"{name} must be set")
        return default

    def first(self, *names: str) -> str:
        """The first of several names that is set, or an empty text."""
        return next((value for name in names if (value := self.text(name, ""))), "")

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """A number of low to high. Raises: SettingError."""
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            raise SettingError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}") from None
        if not low <= number <= high:
            raise SettingError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
        return number

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number of low to high. Raises: SettingError."""
        number = self.number(name, default, low=low, high=high)
        if number != int(number):
            raise SettingError(f"{name} must be a whole number, not {number:g}")
        return int(number)

    def flag(self, name: str, default: bool) -> bool:
        """true or false (also 1/0, yes/no, on/off). Raises: SettingError."""
        value = self.text(name, "true" if default else "false").lower()
        if value in ("true", "1", "yes", "on"):
            return True
        if value in ("false", "0", "no", "off"):
            return False
        raise SettingError(f"{name} must be true or false, not {value!r}")

    def flags(self, ending: str) -> dict[str, bool]:
        """Every flag whose variable's name ends so, by what is before the ending. Raises: SettingError."""
        names = [name for name in self._variables if name.endswith(ending) and name != ending]
        return {name.removesuffix(ending): self.flag(name, False) for name in names}

    def port(self, name: str, default: int) -> int:
        """A TCP port; 0 takes any free one. Raises: SettingError."""
        return self.integer(name, default, low=0, high=65535)

    def url(self, name: str, default: str | None, *, schemes: tuple[str, ...]) -> str:
        """A URL of one of the schemes, with a host. Raises: SettingError, without the value: it may hold a password."""
        value = self.text(name, default)
        if not value and default == "":
            return ""
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.hostname:
            raise SettingError(f"{name} must be a URL that begins with {' or '.join(s + '://' for s in schemes)}")
        return value

    def words(self, name: str, default: str = "") -> tuple[str, ...]:
        """Comma-separated words without the empty ones."""
        return tuple(word for part in self.text(name, default).split(",") if (word := part.strip()))
