"""The provider simulator: the real wire protocols of Anthropic and OpenAI, with faults on demand.

It never calls a provider and holds no model. See `packages/simulator/README.md` for the plan vocabulary.
"""
