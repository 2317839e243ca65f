"""What is said once everything runs: where, with which credentials, and one line to paste that gets an answer."""

from dataclasses import dataclass
from pathlib import Path

from launcher.secrets import TOKEN_DAYS

USER = "dev"
MODEL = "assistant"
"""The default route: whichever providers have a key."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """`api_key` and `token` are empty when they are somebody's own: those are not printed."""

    url: str
    worker: str
    """Host and port of `Generate`."""
    api_key: str
    token: str
    simulated: bool
    data_dir: Path
    redis_host: str
    """Empty: the embedded one."""


def compose(announcement: Announcement) -> str:
    """The text, several lines."""
    # ${API_KEY%%,*}: the first of several, by the shell that holds them.
    key = announcement.api_key or "${API_KEY%%,*}"
    body = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"Hello! Who are you?"}}]}}'
    chats = (
        "Chats and secrets are" if not announcement.redis_host else f"Chats are in {announcement.redis_host}, secrets"
    )
    lines = [
        "",
        f"Switchboard is ready: {announcement.url}",
        "",
        f"  API key     {announcement.api_key or 'yours, from API_KEY'}",
        f"  user token  {announcement.token or 'yours: JWT_SECRET or JWT_JWKS_URL is set by you'}",
    ]
    if announcement.token:
        lines.append(f"              (user {USER}, {TOKEN_DAYS} days; another: make token USER=alice)")
    lines += [
        f"  gRPC        {announcement.worker}, token INTERNAL_TOKEN (docs/generate.md)",
        "",
        "Paste this for an answer:",
        "",
        f"  curl -sS -w '\\n' {announcement.url}/v1/chat/completions -H \"Authorization: Bearer {key}\""
        f" -H 'Content-Type: application/json' -d '{body}'",
        "",
    ]
    if announcement.simulated:
        lines.append(
            "No provider key is set, so a SIMULATOR answers in place of every provider; for real answers set"
            " ANTHROPIC_API_KEY, OPENAI_API_KEY or GROK_API_KEY and start again."
        )
    lines += [f"{chats} in {announcement.data_dir}. Ctrl-C stops everything.", ""]
    return "\n".join(lines)
