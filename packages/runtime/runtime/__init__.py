"""How our processes live: settings from the environment, logs, gRPC servers and channels, errors on the wire, drain.

It knows nothing of chats. See docs/subsystems/runtime.md.
"""
