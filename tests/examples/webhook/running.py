"""The endpoint as a process, and deliveries as a sender signs them."""

import base64
import hmac
import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import httpx2

KEY = b"the key of the pilot"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


@asynccontextmanager
async def endpoint(gateway_address: str, name: str, session_id: str) -> AsyncIterator[str]:
    """Its URL, while it runs."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "examples.webhook", name, session_id, "--port", "0"),
        env={**os.environ, "SPARK_GATEWAY_ADDRESS": gateway_address, "WEBHOOK_SECRET": SECRET},
        stdout=PIPE,
    )
    try:
        yield f"http://{(await process.stdout.readline()).decode().split()[1]}/"
    finally:
        process.kill()
        await process.communicate()


def signed(delivery: str, body: bytes, key: bytes = KEY) -> dict[str, str]:
    digest = hmac.digest(key, f"{delivery}.1700000000.".encode() + body, "sha256")
    return {
        "webhook-id": delivery,
        "webhook-timestamp": "1700000000",
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


async def deliver(url: str, body: bytes, headers: dict[str, str]) -> HTTPStatus:
    async with httpx2.AsyncClient(timeout=30) as client:
        return HTTPStatus((await client.post(url, content=body, headers=headers)).status_code)
