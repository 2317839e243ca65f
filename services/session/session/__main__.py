"""`python -m session`: the session service."""

import os
import sys

from runtime.environment import SettingError

from session import main, settings

if __name__ == "__main__":
    try:
        given = settings.read(os.environ)
    except SettingError as error:
        print(f"session: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(main.run(given))
