"""DBOS: from the send of a message until the workflow that waits for it has it.

`python -m benchmarks.peers.dbos_peer DATABASE_URL` runs the workflow.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from dbos import DBOS, DBOSClient, SetWorkflowID

WORKFLOW_ID = "receiver"
PATIENCE_SECONDS = 3600


@asynccontextmanager
async def sending(database_url: str) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    client = DBOSClient(system_database_url=database_url, use_listen_notify=True)

    async def send(text: str) -> None:
        # It blocks. Nothing else is to be done meanwhile, and in a thread it would only be slower.
        client.send(WORKFLOW_ID, text)

    yield send
    client.destroy()


def _work(database_url: str) -> None:
    DBOS(config={"name": "peer", "system_database_url": database_url, "use_listen_notify": True})

    @DBOS.workflow()
    def receive() -> None:
        print("listening -", flush=True)
        while True:
            print(DBOS.recv(timeout_seconds=PATIENCE_SECONDS), flush=True)

    DBOS.launch()
    with SetWorkflowID(WORKFLOW_ID):
        receive()


if __name__ == "__main__":
    _work(sys.argv[1])
