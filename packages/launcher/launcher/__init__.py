"""Runs the whole system on one machine: Redis, session service, LLM worker, gateway, provider simulator.

`python -m launcher` is `make run`. `launcher.stack` is the same system in the hands of a test or a benchmark.
"""
