"""What a run leaves behind: lines of JSON, in the order in which the harness learned of it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TextIO

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


class History:
    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._streams = count(1)

    def write(self, what: str, **fields: object) -> None:
        """A line of now. A field `began` says since when."""
        line = {"what": what, "at": time.time()} | fields
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def new_stream(self) -> int:
        return next(self._streams)

    @contextmanager
    def fault(self, kind: str, target: str) -> Iterator[None]:
        """Written when it is undone, with the time since which it was done."""
        began = time.time()
        yield
        self.write("fault", began=began, kind=kind, target=target)


@contextmanager
def history(directory: Path) -> Iterator[History]:
    """Each line is there as soon as it is written."""
    with (directory / "history.jsonl").open("w", buffering=1) as file:
        yield History(file)


def as_json(message: Message) -> dict:
    return MessageToDict(message, preserving_proto_field_name=True)
