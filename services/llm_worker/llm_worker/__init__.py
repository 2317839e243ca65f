"""The LLM worker: turns a context into a streamed answer, whatever its provider does.

A turn or a call becomes a question (`context`), is asked of a route's targets in order (`answer`, `route`, `target`,
`breaker`) through the provider port (`provider`, `providers/`), and streams to a sink: a call's (`servicer`), or a
chat's log (`turn_runner`, `turn_log`, `publisher`). `main` wires it; `settings` alone reads the environment.
"""
