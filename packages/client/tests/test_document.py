"""docs/generate.md and the examples: every sample in it is run, against the whole worker with simulated providers."""

import asyncio
import os
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import switchboard_client
from google.protobuf import json_format
from switchboard.llm.v1 import llm_pb2
from switchboard_client import ErrorCode, SwitchboardClient
from switchboard_client.channel import metadata_of
from switchboard_client.retries import AT_A_PROVIDER, ON_THE_WAY

from .reflected import Reflected
from .worker import Running

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "generate.md").read_text()
ADDRESS = "localhost:50052"
PICTURE = b"\x89PNG\r\n\x1a\n a picture"
ASKS = {"tool_calls": [{"name": "weather", "arguments": '{"city": "Oslo"}'}]}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


PYTHON = blocks("python")
PROGRAMS = [block for block in PYTHON if block.startswith("import ")]
FRAGMENTS = [block for block in PYTHON if not block.startswith("import ")]
COMMANDS = [
    shlex.split(line)
    for block in blocks("sh")
    for line in re.split(r"\n(?=grpcurl )", block.replace("\\\n", ""))
    if line.startswith("grpcurl ")
]


async def run(running: Running, *arguments: str) -> tuple[int | None, str, str]:
    """A program's status, output and complaints, started with these arguments as a user would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**os.environ, "INTERNAL_TOKEN": running.token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("program", PROGRAMS, ids=["with the client", "with the stubs"])
async def test_the_documents_programs_print_an_answer(running: Running, program: str) -> None:
    await running.sim.aset_plans("anthropic", then={"text": "Yes, in moderation."})
    assert program.count(ADDRESS) == 1
    status, out, _ = await run(running, "-c", program.replace(ADDRESS, running.address))
    assert (status, out.splitlines()[0]) == (0, "Yes, in moderation.")


@pytest.mark.parametrize(
    ("plans", "says"),
    [
        ([{"text": "A cat."}], "A cat.\n"),
        ([ASKS, ASKS, {"text": "Take an umbrella."}], "Take an umbrella.\n"),
        (
            [{"reasoning": "Hm.", "text": "Three."}],
            "claude-sonnet-4-5 of anthropic\n(thinks: Hm.)\nThree.\nended: stop\n",
        ),
        ([], "NOT_FOUND  False None\nthere are: ['assistant', "),
    ],
    ids=["picture", "tool", "reasoning", "error"],
)
async def test_the_documents_samples_do_what_it_says(
    running: Running,
    request: pytest.FixtureRequest,
    plans: list[dict[str, Any]],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = ["picture", "tool", "reasoning", "error"].index(request.node.callspec.id)
    await running.sim.aset_plans("anthropic", *plans)
    (tmp_path / "cat.png").write_bytes(PICTURE)
    monkeypatch.chdir(tmp_path)
    async with SwitchboardClient(running.address, token=running.token) as client:
        names = {name: getattr(switchboard_client, name) for name in switchboard_client.__all__}
        exec("async def sample(client):\n" + textwrap.indent(FRAGMENTS[at], "    "), names)  # noqa: S102
        await names["sample"](client)
    assert capsys.readouterr().out.startswith(says)
    assert len(await running.sim.arequests()) == len(plans)


def test_every_sample_is_run() -> None:
    assert (len(PROGRAMS), len(FRAGMENTS), len(COMMANDS)) == (2, 4, 10)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command[-1].rpartition('.')[2]}")
async def test_the_documents_grpcurl_lines_are_understood(running: Running, command: list[str]) -> None:
    """grpcurl itself is not here; what it does is: it reads the contract by reflection, and its JSON by that."""
    async with grpc.aio.insecure_channel(running.address) as channel:
        reflected = await Reflected.read(channel)
        at = command.index(ADDRESS)
        match command[at + 1 :]:
            case ["list"]:
                assert "switchboard.llm.v1.LLMService" in reflected.services
            case ["describe", symbol]:
                assert symbol in await reflected.describe(symbol)
            case [path]:
                assert command[command.index("-H") + 1] == "authorization: Bearer $INTERNAL_TOKEN"
                service, _, name = path.partition("/")
                asked = command[command.index("-d") + 1] if "-d" in command else "{}"
                method = await reflected.method(service, name)
                request = json_format.Parse(asked, method.request())
                metadata = metadata_of(running.token, "")
                if method.streams:
                    call = channel.unary_stream(f"/{path}", lambda value: value.SerializeToString())
                    if "temperature" in asked:
                        with pytest.raises(grpc.aio.AioRpcError, match="temperature must be"):
                            await call(request, metadata=metadata, timeout=20).read()
                        return
                    *_, last = [response async for response in call(request, metadata=metadata, timeout=20)]
                    assert llm_pb2.GenerateResponse.FromString(last).HasField("finished")
                else:
                    unary = channel.unary_unary(f"/{path}", lambda value: value.SerializeToString())
                    assert await unary(request, metadata=metadata, timeout=20)
            case other:
                raise AssertionError(f"no such use of grpcurl: {other}")


def test_the_table_of_errors_says_what_the_client_repeats() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.splitlines()
        if line.startswith("|") and "`" in line
    ]
    told: dict[ErrorCode, str] = {}
    for status, reasons, _, repeated in rows:
        assert hasattr(grpc.StatusCode, status)
        for reason in re.findall(r"`(\w+)`", reasons):
            told[ErrorCode(reason)] = repeated
    assert {code for code, repeated in told.items() if repeated == "yes"} == ON_THE_WAY
    assert {code for code, repeated in told.items() if repeated == "if asked"} == AT_A_PROVIDER
    of_chats = {"PERMISSION_DENIED", "ALREADY_EXISTS", "QUEUE_FULL", "LEASE_LOST", "CANCELLED", "CONFLICT"}
    assert set(ErrorCode) - told.keys() == of_chats


@pytest.mark.parametrize("example", ["generate.py", "generate_bare.py"])
async def test_the_examples_print_an_answer_or_what_failed(running: Running, example: str) -> None:
    await running.sim.aset_plans("anthropic", {"text": "Yes, in moderation."})
    path, where = str(ROOT / "examples" / example), ("--address", running.address)
    status, out, err = await run(running, path, *where, "Is tofu healthy?")
    assert (status, out.splitlines()[0], err) == (0, "Yes, in moderation.", "")
    status, out, err = await run(running, path, *where, "--token", "wrong")
    assert (status, out) == (1, "")
    assert err.startswith("failed: UNAUTHENTICATED: ")
