"""The session service: owner of Redis, keeper of every chat's event log. See docs/subsystems/log.md."""
