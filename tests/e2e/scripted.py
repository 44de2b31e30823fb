"""A server that gives each request the next answer of a list: what ours may answer, at its worst."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

#: Bytes, or what gives them once it is time.
Answer = bytes | Callable[[], Awaitable[bytes]]

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 10\n\n"


def answer(status: str, body: object = None, *headers: str) -> bytes:
    text = json.dumps(body).encode() if body is not None else b""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(text)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + text


def frame(id: str, type: str, data: object) -> bytes:
    return f"id: {id}\nevent: {type}\ndata: {json.dumps(data)}\n\n".encode()


class Script:
    """Gives the next answer to each request; keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    @property
    def cursors(self) -> list[str]:
        """The Last-Event-ID of each request for a stream."""
        requests = [text for text in self.asked if "\naccept: text/event-stream\r" in text.lower()]
        found = [re.search(r"^last-event-id: (.*)\r", text, re.MULTILINE | re.IGNORECASE) for text in requests]
        return [match[1] if match else "" for match in found]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(x.split(":")[1]) for x in head.lower().splitlines() if "content-length" in x), 0)
        self.asked.append(head + (await reader.readexactly(length)).decode())
        answer = self.answers.pop(0)
        writer.write(answer if isinstance(answer, bytes) else await answer())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def scripted(*answers: Answer) -> AsyncGenerator[tuple[Script, str]]:
    script = Script(*answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    async with server:
        yield script, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
