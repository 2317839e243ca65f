"""The pure kernel that every service shares: the words of a chat, and what its events add up to.

No I/O, no clock, no randomness, no gRPC but in `codec`. See docs/subsystems/log.md.
"""
