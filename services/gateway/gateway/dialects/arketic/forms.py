"""What clients send to Arketic's endpoints, with the document's limits, and the document's forms of what they get.

What the document leaves open is bounded here, too. A field that breaks its range is refused with 422, naming the field.
Empty texts are not refused here: they have a status of their own (400, see `messages.py`).
"""

from typing import Annotated, Any, Literal

import orjson
from chat.names import NAME_BYTES, is_id
from pydantic import AfterValidator, BaseModel, Field

from gateway.openapi import example
from gateway.storable import check_storable

DEFAULT_MODEL = "gpt-3.5-turbo"
MAX_CONTENT_CHARS = 50_000
_METADATA_BYTES = 16 * 1024


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError("is no id")
    return text


def _user_id(text: str) -> str:
    if not text.isprintable() or not 1 <= len(text.encode()) <= NAME_BYTES:
        raise ValueError(f"must be 1 to {NAME_BYTES} bytes of printable text")
    return text


def _label(text: str) -> str:
    if not text.isprintable() or len(text.encode()) > NAME_BYTES:
        raise ValueError(f"must be at most {NAME_BYTES} bytes of printable text")
    return text


def _metadata(content: dict[str, Any]) -> dict[str, Any]:
    check_storable(content)
    try:
        encoded = orjson.dumps(content)
    except orjson.JSONEncodeError as exc:
        raise ValueError("can't be kept") from exc
    if len(encoded) > _METADATA_BYTES:
        raise ValueError(f"must be at most {_METADATA_BYTES} bytes")
    return content


Title = Annotated[str, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=1000)]
ModelName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_label)]
Persona = Annotated[str, Field(max_length=200)]
SystemPrompt = Annotated[str, Field(max_length=MAX_CONTENT_CHARS)]
Temperature = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
MaxTokens = Annotated[int, Field(ge=1, le=32_000)]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=50)]
Content = Annotated[str, Field(max_length=MAX_CONTENT_CHARS)]
UserId = Annotated[str, AfterValidator(_user_id)]
GivenRole = Literal["ADMIN", "MEMBER", "READ_ONLY"]
"""Nobody becomes an OWNER: the one who makes the chat is."""


class CreateChatRequest(BaseModel):
    """A new chat. `ai_model: null` turns answers off."""

    model_config = example(
        {
            "title": "My AI Chat",
            "description": "Chat about AI development topics",
            "chat_type": "DIRECT",
            "ai_model": "gpt-4",
            "ai_persona": "helpful assistant",
            "system_prompt": "You are a helpful AI assistant specialized in software development.",
            "temperature": 0.7,
            "max_tokens": 2048,
            "is_private": False,
            "tags": ["ai", "development", "assistance"],
        }
    )

    title: Title
    description: Description | None = None
    chat_type: Literal["DIRECT", "GROUP", "CHANNEL"] = "DIRECT"
    ai_model: ModelName | None = DEFAULT_MODEL
    ai_persona: Persona | None = None
    system_prompt: SystemPrompt | None = None
    temperature: Temperature = 0.7
    max_tokens: MaxTokens = 2048
    is_private: bool = False
    tags: Tags | None = None


class ChangeChat(BaseModel):
    """What is to be changed of a chat; what is left out stays."""

    model_config = example({"title": "My AI Chat, continued", "archived": False})

    title: Title | None = None
    description: Description | None = None
    ai_model: ModelName | None = None
    ai_persona: Persona | None = None
    system_prompt: SystemPrompt | None = None
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    is_private: bool | None = None
    tags: Tags | None = None
    archived: bool | None = None


class SendMessageRequest(BaseModel):
    """A new message."""

    model_config = example(
        {
            "content": "Can you explain how async/await works in Python?",
            "message_type": "USER",
            "reply_to_id": None,
            "message_metadata": {"source": "web_app", "user_agent": "Mozilla/5.0..."},
        }
    )

    content: Content
    message_type: Literal["USER", "AI", "SYSTEM"] = "USER"
    reply_to_id: Annotated[str, AfterValidator(_id)] | None = None
    message_metadata: Annotated[dict[str, Any], AfterValidator(_metadata)] | None = None


class EditMessage(BaseModel):
    """A message's new text."""

    model_config = example({"content": "Can you explain how await works in Python?"})

    content: Content


class AskAI(BaseModel):
    """The body of `ai-message`."""

    model_config = example(
        {
            "message": "Hello! Can you explain the concept of machine learning?",
            "stream": False,
            "save_to_history": True,
        }
    )

    message: Content
    stream: bool = False
    save_to_history: bool = True


class TryAI(BaseModel):
    """The body of `langchain/test` and `openai/test`."""

    model_config = example(
        {
            "message": "Hello! This is a test message for LangChain integration.",
            "model": "gpt-3.5-turbo",
            "temperature": 0.7,
            "system_prompt": "You are testing the LangChain service.",
        }
    )

    message: Content
    model: ModelName = DEFAULT_MODEL
    temperature: Temperature = 0.7
    system_prompt: SystemPrompt | None = None


class AddParticipant(BaseModel):
    """Who is to take part. Without a role: MEMBER, in a CHANNEL READ_ONLY."""

    model_config = example({"user_id": "user-789", "username": "janedoe", "role": "MEMBER"})

    user_id: UserId
    username: Annotated[str, AfterValidator(_label)] = ""
    role: GivenRole | None = None


class ChangeParticipant(BaseModel):
    """A participant's new role."""

    model_config = example({"role": "ADMIN"})

    role: GivenRole


class PutKey(BaseModel):
    """A user's own key for a provider."""

    model_config = example({"api_key": "sk-your-own-key"})

    api_key: Annotated[str, Field(min_length=8, max_length=512, pattern=r"^[!-~]+$")]
