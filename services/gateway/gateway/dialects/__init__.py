"""The public chat APIs that the gateway speaks, one a module; `registry.py` finds them. Strangers to one another."""
