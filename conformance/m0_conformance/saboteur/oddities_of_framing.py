"""Oddities of how bytes are framed: chunks, line ends, headers, and every legal spelling of the same JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.http import Answer
from m0_conformance.saboteur.oddity import HEALTH, REQUESTS, STREAMS, Oddity, odd_answer, odd_bytes, odd_form, odd_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Event, Proxy
    from m0_conformance.saboteur.http import Head, Request

EVERYWHERE = (*STREAMS, *REQUESTS, *HEALTH)


class OwnChunks(Oddity):
    """Frames chunks itself: to the proxy a coding in capitals is none of its own."""

    def stream_head(self, request: Request, head: Head) -> Head:
        head.set("transfer-encoding", None)
        head.headers.append(("Transfer-Encoding", "Chunked"))
        return head

    def chunk(self, raw: bytes) -> bytes:
        """One piece as a chunk."""
        return b"%x\r\n%s\r\n" % (len(raw), raw)

    def last(self) -> bytes:
        """What ends the body."""
        return b"0\r\n\r\n"

    async def encode(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        async for event in events:
            yield self.chunk(event.encode())
        yield self.last()


class ChunkExtensions(OwnChunks):
    name = "odd-chunk-extensions"
    about = "Chunk sizes have leading zeros, capitals and extensions."

    def chunk(self, raw: bytes) -> bytes:
        return b'%06X;part=1;note="a;b"\r\n%s\r\n' % (len(raw), raw)


class Trailers(OwnChunks):
    name = "odd-trailers"
    about = "Trailer fields follow the last chunk."

    def last(self) -> bytes:
        return b"000\r\nX-Checksum: 17\r\nServer-Timing: total;dur=3\r\n\r\n"


@odd_form()
def odd_mixed_line_ends(event: Event) -> bytes:
    """One line ends with LF, the next with CR LF."""
    first, second, rest = event.encode().split(b"\n", 2)
    return first + b"\n" + second + b"\r\n" + rest


@odd_bytes()
async def odd_comment_flood(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """A comment of 64 kilobytes comes before the first event."""
    yield b":" + b"padding " * 8192 + b"\n\n"
    async for event in events:
        yield event.encode()


def escaped(text: str) -> str:
    """JSON whose keys are written with escapes alone."""
    return re.sub(r'"(\w+)":', lambda key: '"' + "".join(f"\\u{ord(letter):04X}" for letter in key[1]) + '":', text)


@odd_form()
def odd_escaped_keys(event: Event) -> bytes:
    """The names of fields are written with escapes."""
    text = escaped(json.dumps(event.data, separators=(",", ":"), ensure_ascii=False))
    return f"event: {event.name}\ndata: {text}\n\n".encode()


@odd_form()
def odd_spaced_json(event: Event) -> bytes:
    """Spaces and tabs stand wherever JSON allows them."""
    text = json.dumps(event.data, separators=(" ,\t", " :\t"), ensure_ascii=False)
    return f"event: {event.name}\ndata: \t{text} \t\n\n".encode()


@odd_answer(watch=(*REQUESTS, *HEALTH))
def odd_pretty_json(answer: Answer) -> Answer:
    """Answers are JSON over several lines, indented, with a line end at the end."""
    value = answer.json()
    return answer if value is None else Answer(answer.head, json.dumps(value, indent=4).encode() + b"\r\n")


class Exponents(Oddity):
    name = "odd-exponents"
    about = "/health writes its uptime with an exponent."
    watch = HEALTH

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if request.path != "/health" or answer.head.status != 200:
            return answer
        body: dict[str, Any] = answer.json()
        number = f"{body['uptime_seconds']:.6E}"
        text = json.dumps({**body, "uptime_seconds": "?"}).replace('"?"', number)
        return Answer(answer.head, text.encode())


class Padding(Oddity):
    name = "odd-header-padding"
    about = "Values of headers have spaces and tabs around them."
    watch = EVERYWHERE

    def stream_head(self, request: Request, head: Head) -> Head:
        framing = {"transfer-encoding", "connection"}
        head.headers = [(k, v if k.lower() in framing else f" \t{v} \t ") for k, v in head.headers]
        return head

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        answer.head.headers = [(key, f"  {value}\t") for key, value in answer.head.headers]
        return answer


@odd_head()
def odd_long_header(head: Head) -> Head:
    """A header of six kilobytes comes with each stream, and forty short ones."""
    head.headers += [("X-Trace", "t" * 6000), *((f"X-Note-{number}", "n") for number in range(40))]
    return head


class NoReason(Oddity):
    name = "odd-empty-reason"
    about = "Status lines have a blank where others have a reason."
    watch = EVERYWHERE

    def stream_head(self, request: Request, head: Head) -> Head:
        head.reason = " "
        return head

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        answer.head.reason = " "
        return answer
