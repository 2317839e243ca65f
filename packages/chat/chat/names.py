"""What ids and names may be, wherever they are taken in."""

import re

NAME_BYTES = 200
"""A user's id, a session's name, or a name to show, in UTF-8, at the most."""
ID_FORM = "1 to 128 characters of A-Z a-z 0-9 . _ : -"
"""In words, for whoever is refused."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def is_id(text: str) -> bool:
    """Whether it has the form of an id: of a chat, a message, a turn, a dialect, a worker."""
    return _ID.fullmatch(text) is not None
