"""The ASGI application: admit, read, predict in a thread, answer, count.

While the server drains, requests are answered as before, and each answer asks its client to close
the connection: so clients move on without losing a request.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from slimline.contract import BadData, get_logger
from slimline.serving.http import HttpError, Request, Response, as_error, read_body
from slimline.serving.routes import find_route

if TYPE_CHECKING:
    from slimline.serving.http import Receive, Scope, Send
    from slimline.serving.routes import Route
    from slimline.serving.settings import Settings
    from slimline.serving.state import State

log = get_logger(__name__)
_UNKNOWN = "other"


class App:
    """One server's application over its state and its pool of threads."""

    def __init__(self, settings: Settings, state: State) -> None:
        """Make the pool; `close()` ends it."""
        self.settings, self.state = settings, state
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="predict")
        self._admitted = 0

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self.state.metrics.in_flight > 0

    def close(self) -> None:
        """End the pool; what has not begun is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        started, metrics = time.perf_counter(), self.state.metrics
        metrics.in_flight += 1
        counted, status = _UNKNOWN, 499
        try:
            counted, response = await self._answer(scope, receive)
            status = response.status
            await _send(send, response, close=self.state.draining or status in (408, 413))
        finally:
            metrics.in_flight -= 1
            metrics.count(counted, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[str, Response]:
        counted = _UNKNOWN
        try:
            route, names = find_route(scope["method"], scope["path"])
            counted = route.pattern
            request = Request(dict(scope["headers"]), names=names)
            if route.light is not None:
                return counted, route.light(self.state, request)
            return counted, await self._predict(route, request, receive)
        except HttpError as error:
            return counted, as_error(error)
        except BadData as error:
            return counted, as_error(HttpError(422, str(error)))
        except Exception:
            log.exception("%s %s failed: this is a bug", scope["method"], counted)
            return counted, as_error(HttpError(500, "the server failed; its log says why"))

    async def _predict(self, route: Route, request: Request, receive: Receive) -> Response:
        model, settings = self.state.require_model(), self.settings
        if self._admitted >= settings.queue:
            raise HttpError(429, f"{settings.queue} requests are under way: try again", retry=True)
        assert route.predict is not None  # noqa: S101 - a route is light or predicts
        self._admitted += 1
        answer: Future[Response] | None = None
        status, stage = 408, "its body did not arrive"
        try:
            async with asyncio.timeout(settings.timeout):
                body = await read_body(request, receive, settings.max_body)
                status, stage = 503, "the model did not answer"
                full = replace(request, body=body)
                answer = self._pool.submit(route.predict, model, full, settings.max_batch)
                return await asyncio.wrap_future(answer)
        except TimeoutError as error:
            message = f"{stage} within {settings.timeout:g} s"
            raise HttpError(status, message, retry=status == 503) from error  # noqa: PLR2004
        finally:
            self._leave(answer)

    def _leave(self, answer: Future[Response] | None) -> None:
        """Give the place in the queue back; a thread that still works keeps it until it ends."""
        if answer is None or answer.done():
            self._admitted -= 1
            return
        loop = asyncio.get_running_loop()
        answer.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave, None))


async def _send(send: Send, response: Response, *, close: bool) -> None:
    headers = [
        (b"content-type", response.content_type.encode()),
        (b"content-length", str(len(response.body)).encode()),
        *response.headers,
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
