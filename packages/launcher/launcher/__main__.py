"""`python -m launcher` runs the whole system in the foreground; `token USER` prints a user's token, `log CHAT`
a chat's log.

Exit codes: 0 it was stopped (Ctrl-C, SIGTERM, SIGHUP), 1 it could not start, 2 a setting is wrong.
"""

import asyncio
import os
import sys
from collections.abc import Mapping

from runtime.environment import SettingError

from launcher.chat_log import print_chat_log
from launcher.process import ChildEndedError
from launcher.run import BAD_SETTING, FAILED, STOPPED, run
from launcher.secrets import load_secrets
from launcher.settings import read_settings


def main(arguments: list[str], variables: Mapping[str, str]) -> int:
    """Returns the exit code."""
    match arguments:
        case []:
            return asyncio.run(run(variables))
        case ["token", user] if user:
            return print_token(user, variables)
        case ["log", chat] if chat:
            return show_log(chat, variables)
        case _:
            print("usage: python -m launcher [token USER | log CHAT]", file=sys.stderr)
            return BAD_SETTING


def print_token(user: str, variables: Mapping[str, str]) -> int:
    try:
        settings = read_settings(variables)
        if settings.own_tokens:
            print(
                "switchboard: JWT_JWKS_URL is set: tokens come from whoever serves it, not from here", file=sys.stderr
            )
            return BAD_SETTING
        secrets = load_secrets(settings.data_dir, variables)
    except SettingError as exc:
        print(f"switchboard: {exc}", file=sys.stderr)
        return BAD_SETTING
    except OSError as exc:
        print(f"switchboard: SWITCHBOARD_DATA_DIR: {exc.filename}: {exc.strerror}", file=sys.stderr)
        return BAD_SETTING
    print(secrets.user_token(user, issuer=settings.issuer, audience=settings.audience))
    return STOPPED


def show_log(chat: str, variables: Mapping[str, str]) -> int:
    try:
        return asyncio.run(print_chat_log(chat, read_settings(variables)))
    except SettingError as exc:
        print(f"switchboard: {exc}", file=sys.stderr)
        return BAD_SETTING
    except (OSError, ChildEndedError) as exc:
        print(f"switchboard: {exc}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
