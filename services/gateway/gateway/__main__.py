"""`python -m gateway`."""

import os
import sys

from gateway.main import main

sys.exit(main(os.environ))
