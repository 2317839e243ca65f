"""What clients' own JSON may hold, so that what comes back is what was sent: it is stored as protobuf's Struct.

Pure; raises ValueError, which pydantic makes a refused field of. Subsystem: docs/subsystems/gateway.md.
"""

import math

DEPTH = 16
"""Far above what anybody needs, and below where protobuf gives up: at 100 levels, of which each of these takes 3."""
_WHOLE = 2**53
"""Beyond it a double, which all of Struct's numbers are, does not know every whole number."""


def check_storable(value: object, depth: int = DEPTH) -> None:
    """Raises: ValueError, saying what it must be: what would come back is not what was sent, or it is nested deeper."""
    match value:
        case dict() | list() if not depth:
            raise ValueError(f"it must be nested at most {DEPTH} deep")
        case dict():
            for item in value.values():
                check_storable(item, depth - 1)
        case list():
            for item in value:
                check_storable(item, depth - 1)
        case float() if not math.isfinite(value):
            raise ValueError("its numbers must be finite")
        case int() if abs(value) > _WHOLE:
            raise ValueError("its whole numbers must lie within 2^53: send larger ones as text")
        case _:
            pass
