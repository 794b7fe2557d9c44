"""A worker in 90 lines of asyncio that speaks just enough M0, with a few sins to choose from. Only for these tests.

python fake_m0.py [--sin NAME] --worker-id … --model … --gpu-device … --port …
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import signal
import sys
import time

HEALTH = {
    "status": "healthy",
    "model": "fake",
    "resident": False,
    "vram_bytes_used": 1,
    "vocab_size": 512,
    "context_length": 4096,
    "quant_kind": "Q4_0",
    "tokenizer_kind": "gguf-bpe",
}
BEGIN = time.monotonic()


def event(sin: str, name: str, **data: object) -> bytes:
    if sin == "json-type":
        return f"data: {json.dumps({'type': name, **data})}\n\n".encode()
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def execute(sin: str, writer: asyncio.StreamWriter, request: dict[str, object]) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    writer.write(event(sin, "started", job_id=request["job_id"], model="fake", started_at=now))
    count = min(int(str(request.get("max_tokens", 8))), 40)
    for index in range(count):
        writer.write(event(sin, "token", t=f" w{index % 7}", i=index + (sin == "index-gap" and index > 0)))
        await writer.drain()
    if sin != "no-terminal":
        writer.write(event(sin, "end", tokens_out=count, decode_time_ms=0))
    if sin == "json-type":
        writer.write(b"data: [DONE]\n\n")


async def serve(sin: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next((int(x.split(":")[1]) for x in head.split("\r\n") if x.lower().startswith("content-length")), 0)
        body = await reader.readexactly(length)
        if "transfer-encoding: chunked" in head.lower():
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        path = head.split(" ")[1]
        if path == "/health":
            uptime = round(time.monotonic() - BEGIN, 3)
            text = json.dumps({**HEALTH, "uptime_seconds": uptime}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text))
            writer.write(text)
        elif path == "/execute":
            await execute(sin, writer, json.loads(body))
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
    except (asyncio.IncompleteReadError, OSError, ValueError):
        pass
    writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sin", default="")
    for name in ("--worker-id", "--model", "--gpu-device"):
        parser.add_argument(name)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(lambda r, w: serve(options.sin, r, w), "127.0.0.1", options.port)
    sys.stdout.write(json.dumps({"event": "ready"}) + "\n")
    sys.stdout.flush()
    async with server:
        await stop.wait()


asyncio.run(main())
