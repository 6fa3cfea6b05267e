import json
from io import StringIO

from rich.console import Console

from sparkctl.follow import Connected, Disconnected, Waiting
from sparkctl.watch import show, show_json
from tests.sparkctl.events import Script, at, delta, nudge


async def news_of(*pieces):
    for piece in pieces:
        yield piece


def a_disconnection():
    return Disconnected(at(20).ToDatetime().astimezone())


def paper():
    return Console(file=StringIO(), width=40)


async def test_without_a_terminal_every_row_is_a_line_whatever_its_length():
    console = paper()
    long = "Words that go on and on. " * 20
    await show(news_of(Script().session().says(long).interrupt("posted", nudge())), console, hint="hint")

    written = console.file.getvalue()
    assert written.splitlines()[0] == "session      lighthouse: Keep the lamp."
    assert written.splitlines()[1] == f"agent        {long.strip()}"
    assert written.splitlines()[2].startswith("pending      operator nudges: Watch the trawler.")
    assert "\x1b" not in written


async def test_on_a_terminal_rows_stay_and_the_foot_goes():
    console = Console(file=StringIO(), width=60, force_terminal=True, legacy_windows=False)
    script = Script().turn().round().says("I climb the stairs.")
    await show(news_of(script[:2], [delta("I climb")], script[2:]), console, hint="Ctrl-C ends it")

    written = console.file.getvalue()
    assert "I climb the stairs." in written
    assert "Ctrl-C ends it" not in written.rsplit("\x1b[2K", 1)[1]


async def test_json_is_an_event_per_line_and_nothing_else():
    console, notices = paper(), paper()
    script = Script().session().interrupt("posted", nudge())
    news = news_of(Waiting([nudge()]), script, a_disconnection(), Connected(), [delta("Föhn")])
    await show_json(news, console, notices)

    session, posted, streamed = map(json.loads, console.file.getvalue().splitlines())
    assert session["sessionChanged"]["session"]["state"] == "SESSION_STATE_ACTIVE"
    assert posted["interruptPosted"]["interrupt"]["nudge"] == {"text": "Watch the trawler."}
    assert streamed["textDelta"]["text"] == "Föhn"
    assert notices.file.getvalue().startswith("pending ")
    assert "disconnected since" in notices.file.getvalue()
