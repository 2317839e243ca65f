"""Grok, xAI's models, over their OpenAI-compatible API.

Document: https://docs.x.ai/docs/api-reference. One frame a direction: see `llm_worker.openai_wire`. Deviations from
OpenAI's wire: an error's body is `{"code": "...", "error": "..."}`, its code a sentence and not a name; a wrong key is
answered with 400, as any malformed request is, so that both lead to the next target.
"""

import httpx2

from llm_worker.openai_wire import OpenAIClient
from llm_worker.provider import Provider
from llm_worker.settings import ProviderSettings


def open_provider(settings: ProviderSettings, http_client: httpx2.AsyncClient) -> Provider:
    """The adapter."""
    return OpenAIClient(settings, http_client)
