"""Pictures as OpenAI's clients send them: an https URL, or a data URL with the picture itself in base64."""

import binascii
import re

from gateway.dialects.openai_compat.failures import refusal
from gateway.prompts import IMAGE_BYTES, IMAGE_URL_CHARS, Image

_HTTPS = re.compile(r"https://[!-~]+")
_DATA = re.compile(r"data:(image/[a-z]+);base64,", re.IGNORECASE)
_MEDIA_TYPES = {
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    # No registered name, and widely sent.
    "image/jpg": "image/jpeg",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
_BASE64_CHARS = IMAGE_BYTES // 3 * 4
"""Of the largest picture: its bytes are a multiple of 3."""


def read_image(url: str, where: str) -> Image:
    """The picture at this URL or in it. Raises: SwitchboardError INVALID_ARGUMENT."""
    if url[:5].lower() != "data:":
        if _HTTPS.fullmatch(url) is None or len(url) > IMAGE_URL_CHARS:
            raise refusal(
                "A picture needs an https URL (printable ASCII, at most "
                f"{IMAGE_URL_CHARS:,} characters) or a data URL: data:image/png;base64,...",
                where,
            )
        return Image(url=url)
    head = _DATA.match(url)
    media_type = None if head is None else _MEDIA_TYPES.get(head[1].lower())
    if head is None or media_type is None:
        raise refusal(
            "A picture's data URL must begin with data:image/png;base64, (or image/jpeg, image/gif, image/webp).", where
        )
    if len(url) - head.end() > _BASE64_CHARS:
        raise refusal(f"A picture must have at most {IMAGE_BYTES:,} bytes.", where)
    content = _decoded(url[head.end() :], where)
    if not content:
        raise refusal("The picture is empty.", where)
    return Image(content=content, media_type=media_type)


def _decoded(text: str, where: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as exc:
        raise refusal("The picture's data is not valid base64.", where) from exc
