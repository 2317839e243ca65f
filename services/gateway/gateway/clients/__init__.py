"""Adapters of `ports.py` over gRPC: the only modules that know the stubs."""
