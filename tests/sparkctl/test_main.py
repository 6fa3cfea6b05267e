"""The program as a person starts it."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest

from spark.agent.v1.message_pb2 import Message
from spark.agent.v1.model_pb2 import ModelCheck
from spark.agent.v1.session_pb2 import Session
from spark.agent.v1.tool_pb2 import Tool, ToolSet
from tests.sparkctl.events import INTERRUPT, SESSION, Script, delta, nudge
from tests.sparkctl.scripted import Broken, Forever, Synced


@dataclass
class Result:
    exit_code: int
    out: str
    err: str


@pytest.fixture
def sparkctl(scripted):
    """Runs a command to its end against the scripted services."""

    async def run(*arguments):
        async with started(scripted.address, *arguments) as process:
            out, err = await process.communicate()
        return Result(process.returncode, out.decode(), err.decode())

    return run


@asynccontextmanager
async def started(address, *arguments, directory=None):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    told = {"SPARK_AGENT_ADDRESS": address, "SPARK_GATEWAY_ADDRESS": address} if address else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sparkctl",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=inherited | told,
        cwd=directory,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_create_prints_the_id_and_nothing_else(scripted, sparkctl):
    created = await sparkctl("create", "Keep the lamp.", "--name", "lighthouse", "--model", "demo")

    assert created == Result(0, f"{SESSION}\n", "")
    assert scripted.agent.created[0].session.config.model == "demo"


async def test_update_says_what_is_changed_and_from_when_on_it_counts(scripted, sparkctl):
    scripted.agent.sessions = [Session(session_id=SESSION, display_name="lighthouse")]
    options = ["--goal", "Keep the harbour.", "--mode", "on-interrupt", "--no-inner-voice", "--label", "a=b"]

    updated = await sparkctl("update", "lighthouse", *options, "--cooldown", "5", "--max-turns", "7")

    assert updated == Result(
        0,
        f"{SESSION} queued\n"
        "changed at once: labels, mode, cooldown, max turns\n"
        "changed from the next turn on: goal, inner voice\n",
        "",
    )
    assert scripted.agent.updated[0].session.config.disable_inner_voice


async def test_an_address_may_stand_in_a_file_in_the_working_directory(scripted, tmp_path):
    scripted.agent.sessions = [Session(session_id=SESSION, display_name="lighthouse")]
    (tmp_path / ".env").write_text(f"SPARK_AGENT_ADDRESS={scripted.address}\n")

    async with started("", "sessions", directory=tmp_path) as process:
        out, _ = await process.communicate()

    assert "lighthouse" in out.decode()


async def test_post_prints_the_id_and_the_state_and_with_wait_what_follows(scripted, sparkctl):
    scripted.agent.sessions = [Session(session_id=SESSION, display_name="lighthouse")]
    scripted.gateway.states = [nudge("DELIVERED"), nudge("SEEN")]

    posted = await sparkctl("post", "lighthouse", "Watch the trawler.", "--wait")

    first, second, third = posted.out.splitlines()
    assert first.startswith(f"{INTERRUPT} pending since")
    assert second.startswith("delivered at")
    assert third.startswith("seen by the model at")
    assert posted.exit_code == 0


async def test_post_fails_unless_the_interrupt_was_seen(scripted, sparkctl):
    scripted.gateway.states = [nudge("CANCELLED")]

    posted = await sparkctl("post", SESSION, "Watch the trawler.", "--wait")

    assert (posted.exit_code, posted.err) == (1, "sparkctl: not seen, but cancelled\n")


async def test_sessions_prints_a_table_with_nothing_folded(scripted, sparkctl):
    names = [f"the lighthouse at the end of the world, number {n}" for n in range(2)]
    scripted.agent.sessions = [Session(session_id=SESSION, display_name=name) for name in names]

    printed = await sparkctl("sessions")

    _, *lines = printed.out.splitlines()
    assert all(name in line for name, line in zip(names, lines, strict=True))


async def test_interrupts_prints_a_table_with_nothing_folded(scripted, sparkctl):
    scripted.agent.interrupts = [nudge(), nudge("SEEN", "A text that goes on for longer than a terminal.")]

    printed = await sparkctl("interrupts", SESSION)

    heading, first, second = printed.out.splitlines()
    assert heading.split() == ["INTERRUPT", "STATE", "AGE", "SAYS"]
    assert first.split()[:2] == [INTERRUPT, "pending"]
    assert second.rstrip().endswith("goes on for longer than a term…")
    assert (printed.exit_code, printed.err) == (0, "")


async def test_tools_prints_a_table_with_nothing_folded(scripted, sparkctl):
    tool = Tool(name="web_fetch", description="Fetches a page, whatever its length, and makes it readable.")
    scripted.agent.tool_sets = [ToolSet(name="web", state="TOOL_SET_STATE_UP", tools=[tool])]

    printed = await sparkctl("tools")

    heading, row = printed.out.splitlines()
    assert heading.split() == ["SET", "STATE", "TOOL", "SAYS"]
    assert row.split()[:3] == ["web", "up", "web_fetch"]
    assert row.rstrip().endswith("and makes it readable.")
    assert (printed.exit_code, printed.err) == (0, "")


async def test_models_check_prints_what_was_found_out(scripted, sparkctl):
    scripted.agent.checks["local"] = ModelCheck(
        model="local", placement="PLACEMENT_TOOL", system_role=True, evidence="EVIDENCE_RENDERED"
    )

    printed = await sparkctl("models", "check", "local")

    heading, interrupts, known, not_known = printed.out.splitlines()
    assert heading.startswith("── local at ")
    assert interrupts.split(maxsplit=1)[1].startswith("tool: at the end of the last tool's response")
    assert known == "known by     its server showed the prompts that it makes"
    assert not_known.startswith("not known    whether the model heeds")
    assert (printed.exit_code, printed.err) == (0, "")


async def test_models_check_exits_1_where_nothing_could_be_found_out(scripted, sparkctl):
    scripted.agent.checks["local"] = ModelCheck(model="local", failure="Nobody is there.")

    printed = await sparkctl("models", "check", "local")

    assert printed.out.splitlines()[1] == "failed       Nobody is there."
    assert (printed.exit_code, printed.err) == (1, "")


async def test_cancel_prints_what_became_of_the_interrupt(sparkctl):
    cancelled = await sparkctl("cancel", INTERRUPT)

    assert cancelled.out.startswith(f"{INTERRUPT} cancelled at ")
    assert cancelled.out.endswith(": on request\n")
    assert (cancelled.exit_code, cancelled.err) == (0, "")


async def test_cancel_fails_where_it_is_refused(scripted, sparkctl):
    refusal = Broken(grpc.StatusCode.FAILED_PRECONDITION, "it was delivered", "INTERRUPT_NOT_PENDING")
    scripted.gateway.failures = [refusal]

    cancelled = await sparkctl("cancel", INTERRUPT)

    assert cancelled == Result(1, "", "sparkctl: it was delivered (INTERRUPT_NOT_PENDING)\n")


async def test_transcript_prints_every_row_whole(scripted, sparkctl):
    long = "I [bold]climb[/]. " * 20
    scripted.agent.messages = [
        Message(type="MESSAGE_TYPE_USER", turn=1, text="Go on."),
        Message(type="MESSAGE_TYPE_ASSISTANT", turn=1, text=long),
    ]

    printed = await sparkctl("transcript", SESSION)

    assert printed.out.splitlines() == [
        "── turn 1 ──",
        "inner voice  Go on.",
        f"agent        {long.rstrip()}",
    ]
    assert (printed.exit_code, printed.err) == (0, "")


async def test_show_says_how_a_session_stands(scripted, sparkctl):
    session = Session(session_id=SESSION, state="SESSION_STATE_ACTIVE", activity="ACTIVITY_QUEUED", goal="x")
    scripted.agent.sessions, scripted.agent.interrupts = [session], [nudge()]
    scripted.agent.streams = [[Synced()]]

    shown = await sparkctl("show", SESSION)

    labels = [line[:12].rstrip() for line in shown.out.splitlines()]
    assert labels == ["session", "goal", "state", "pending", "waits", "goes on"]
    assert (shown.exit_code, shown.err) == (0, "")


@pytest.mark.parametrize(("command", "state"), [("pause", "paused"), ("resume", "queued"), ("end", "ended")])
async def test_a_change_of_a_session_prints_what_it_is_now(scripted, sparkctl, command, state):
    scripted.agent.sessions = [Session(session_id=SESSION, display_name="lighthouse")]

    assert await sparkctl(command, "lighthouse") == Result(0, f"{SESSION} {state}\n", "")


async def test_watch_writes_lines_without_asking_for_deltas_and_ends_with_the_session(scripted, sparkctl):
    scripted.agent.streams = [Script().session().says("I climb.").session("ENDED")]

    watched = await sparkctl("watch", SESSION, "--after-revision", "7")

    assert watched.exit_code == 0
    assert "agent        I climb." in watched.out.splitlines()
    assert (scripted.agent.opened[0].after_revision, scripted.agent.opened[0].include_deltas) == (7, False)


async def test_watch_json_brings_deltas_only_if_they_are_asked_for(scripted, sparkctl):
    scripted.agent.streams = [[*Script().session("ENDED"), delta("I climb")]]

    watched = await sparkctl("watch", SESSION, "--json", "--deltas")

    assert [next(iter(json.loads(line).keys() - {"revision"})) for line in watched.out.splitlines()]
    assert scripted.agent.opened[0].include_deltas


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_ends_the_watching_and_is_no_error(scripted, number):
    scripted.agent.streams = [[*Script().session(), Forever()]]
    async with started(scripted.address, "watch", SESSION) as process:
        await process.stdout.readline()
        process.send_signal(number)
        _, err = await process.communicate()

    assert (process.returncode, err) == (0, b"")


async def test_a_reader_that_goes_away_ends_the_watching_without_a_traceback(scripted):
    scripted.agent.streams = [[*Script().session().says("x" * 200_000).says("y"), Forever()]]
    async with started(scripted.address, "watch", SESSION) as process:
        await process.stdout.readline()
        process._transport.get_pipe_transport(1).close()
        err = await process.stderr.read()
        await process.wait()

    assert err == b""


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["end", SESSION], 1, f"sparkctl: session {SESSION} does not exist (SESSION_NOT_FOUND)\n"),
        (
            ["end", "nobody"],
            2,
            "sparkctl: no session has the id, the beginning of an id or the name 'nobody'\n",
        ),
        (
            ["update", SESSION],
            2,
            "sparkctl: nothing is to be changed: `sparkctl update --help` lists the options\n",
        ),
        (["create", "x", "--label", "y"], 2, "sparkctl: --label must be KEY=VALUE, not 'y'\n"),
        (["create", b"\xff"], 1, "sparkctl: the arguments are not valid text\n"),
    ],
)
async def test_what_goes_wrong_is_one_line_and_an_exit_code(sparkctl, arguments, exit_code, said):
    assert await sparkctl(*arguments) == Result(exit_code, "", said)
