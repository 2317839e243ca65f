"""The connection's options and addresses, and what the package leans on."""

import subprocess
import sys

import pytest
from runtime import rpc_channel
from switchboard.chat.v1 import chat_pb2
from switchboard_client import ErrorCode, Image, ToolCall, ToolCallDelta, assemble, user
from switchboard_client.channel import OPTIONS, metadata_of, target_of
from switchboard_client.codec import request_of


def test_the_channels_options_are_those_of_our_services() -> None:
    assert list(OPTIONS) == rpc_channel._OPTIONS


def test_the_error_codes_are_the_contracts() -> None:
    names = [value.name.removeprefix("ERROR_CODE_") for value in chat_pb2.ErrorCode.DESCRIPTOR.values]
    assert ["UNSPECIFIED", *ErrorCode] == names


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("localhost:50052", "localhost:50052"),
        ("dns:///workers:50052", "dns:///workers:50052"),
        (["workers:50052"], "workers:50052"),
        (["10.0.0.1:1", "10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["[::1]:1", "[::2]:2"], "ipv6:[::1]:1,[::2]:2"),
    ],
)
def test_addresses_make_one_target(address: str | list[str], target: str) -> None:
    assert target_of(address) == target


@pytest.mark.parametrize("addresses", [[], ["a:1", "b:2"], ["10.0.0.1:1", "[::1]:2"], ["10.0.0.1", "10.0.0.2"]])
def test_addresses_that_gRPC_can_not_hold_together_are_refused(addresses: list[str]) -> None:
    with pytest.raises(ValueError, match="address"):
        target_of(addresses)


def test_the_acting_user_is_told_in_ascii() -> None:
    assert metadata_of("t", "") == (("authorization", "Bearer t"),)
    assert metadata_of("t", "zoë / 1")[1] == ("x-switchboard-user", "zo%C3%AB%20%2F%201")


def test_tool_calls_are_put_together_from_pieces_that_come_in_turns() -> None:
    deltas = [
        ToolCallDelta(0, "a", "add", '{"x":'),
        ToolCallDelta(1, "b", "now", ""),
        ToolCallDelta(0, "", "", " 1}"),
    ]
    one, two = assemble(deltas)
    assert (one, one.parse()) == (ToolCall("a", "add", '{"x": 1}'), {"x": 1})
    assert (two, two.parse()) == (ToolCall("b", "now", "{}"), {})
    with pytest.raises(ValueError, match="no JSON object"):
        ToolCall("a", "add", "[]").parse()
    with pytest.raises(ValueError, match="Expecting"):
        ToolCall("a", "add", '{"x":').parse()


def test_a_picture_is_its_bytes_or_its_address() -> None:
    request = request_of([user(Image(content=b"GIF", media_type="image/gif"), Image(url="https://x/y"))], {})
    one, two = (part.image for part in request.messages[0].parts)
    assert (one.WhichOneof("source"), one.content, one.media_type) == ("content", b"GIF", "image/gif")
    assert (two.WhichOneof("source"), two.url) == ("url", "https://x/y")


def test_it_needs_nothing_of_ours_but_the_stubs() -> None:
    strangers = ("chat", "runtime", "grpc_status", "simulator", "launcher", "llm_worker", "gateway", "session")
    code = f"import sys, switchboard_client; sys.exit(' '.join(sys.modules.keys() & set({strangers})) or None)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stderr.strip(), ended.returncode) == ("", 0)
