"""A request, a response and a refusal, as small as they can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

JSON = "application/json"


class HttpError(Exception):
    """An answer that is not 200: a status and one sentence, sent as `{"error": ...}`."""

    def __init__(self, status: int, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.retry = status, message, retry


@dataclass(frozen=True)
class Request:
    """What a handler sees of a request: its body is read, its header names are lower case."""

    headers: dict[bytes, bytes]
    body: bytes = b""
    names: tuple[str, ...] = ()
    """What stands at the places of the route that are open: `{name}`, `{version}`."""

    def header(self, name: bytes) -> str:
        """A header's value, "" when it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(frozen=True)
class Response:
    """A status, a body and its headers."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())


def as_json(value: Any, status: int = 200) -> Response:
    """A JSON answer; numpy arrays in it are written as lists, float32 without loss."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status)


def as_error(error: HttpError) -> Response:
    """The answer that tells what was wrong."""
    retry = ((b"retry-after", b"1"),) if error.retry else ()
    body = orjson.dumps({"error": error.message})
    return Response(body, error.status, headers=retry)


async def read_body(request: Request, receive: Receive, limit: int) -> bytes:
    """Read a request's body.

    A body a little too large is read to its end and thrown away, so that the client hears the
    answer; one far too large is not.

    Raises:
        HttpError: 413 when it is larger than `limit` bytes; 400 when the client went away.
    """
    declared = request.header(b"content-length")
    too_large = HttpError(413, f"the body has more than {limit} bytes: send smaller batches")
    if declared.isdigit() and int(declared) > 4 * limit:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpError(400, "the connection ended before the body did")
        piece = message.get("body", b"")
        size += len(piece)
        if size > 4 * limit:
            raise too_large
        if size <= limit:
            pieces.append(piece)
        else:
            pieces.clear()
        if not message.get("more_body", False):
            break
    if size > limit:
        raise too_large
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
