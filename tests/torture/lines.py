"""The lines of a recorded run, found by what they say, for tests that change them."""

import json
from collections.abc import Callable, Iterator

from tests.torture.recording import Recording


class Lines:
    """A copy of a recording's."""

    def __init__(self, recording: Recording) -> None:
        self._take(json.dumps([recording.history, recording.rows]))

    def _take(self, text: str) -> None:
        self.history, self.rows = json.loads(text)

    @property
    def recording(self) -> Recording:
        return Recording(self.history, self.rows)

    def replace(self, old: str, new: str) -> None:
        """Everywhere."""
        text = json.dumps([self.history, self.rows])
        assert old in text
        self._take(text.replace(old, new))

    def table(self, table: str, name: str = "", **fields: object) -> list[dict]:
        """The rows of a session that say this."""
        rows = [line["row"] for line in self.rows if line.get("table") == table]
        rows.sort(key=lambda row: row["revision"] if table == "events" else 0)
        of_session = [row for row in rows if not name or row["session_id"] == self.session_id(name)]
        return [row for row in of_session if fields.items() <= row.items()]

    def session_id(self, name: str) -> str:
        sessions = [line["row"] for line in self.rows if line.get("table") == "sessions"]
        return next(row["session_id"] for row in sessions if row["display_name"] == name)

    def row(self, name: str, kind: str, begin: str = "") -> dict:
        """The first row of this type that begins with these words."""
        rows = sorted(self.table("messages", name, type=kind), key=lambda row: row["posted_revision"])
        return next(row for row in rows if row["text"].startswith(begin))

    def told(self, what: str, **fields: object) -> list[dict]:
        return [line for line in self.history if line["what"] == what and fields.items() <= line.items()]

    def posts(self, request_id: str) -> list[dict]:
        posts = self.told("call", method="PostInterrupt")
        return [line for line in posts if line["request"]["request_id"] == request_id]

    def asked(self, name: str, words: str = "You are an autonomous agent") -> list[dict]:
        """The requests of a session that say this."""
        marked = [line for line in self.told("asked") if f"[goal:{name}]" in prompt(line)["content"]]
        return [line for line in marked if words in json.dumps(line["body"])]

    def agent_asked(self, name: str) -> list[dict]:
        return [line for line in self.asked(name) if "Write a summary" not in json.dumps(line["body"])]

    def forget(self, gone: Callable[[dict], object]) -> None:
        self.history = [line for line in self.history if not gone(line)]

    def forget_rows(self, gone: Callable[[dict], object]) -> None:
        self.rows = [line for line in self.rows if not gone(line)]

    def listed(self, method: str, name: str) -> list[dict]:
        """The pages of a list at the end."""
        lists = [line for line in self.rows if line.get("list") == method]
        return next(line["answers"] for line in lists if line["session_id"] == self.session_id(name))

    def streamed(self) -> Iterator[list[dict]]:
        """The events of each response of a stream that has some."""
        for line in self.told("got"):
            if events := line["response"].get("events"):
                yield events


def prompt(asked: dict) -> dict:
    return asked["body"]["messages"][0]
