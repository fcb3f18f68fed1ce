"""Clients that ask an endpoint without a pause, and keep what they were answered."""

from __future__ import annotations

import functools
import io
import threading
import time
from typing import Any, Self

import httpx
import numpy as np

from support import web


class Load:
    """Lasting connections, and a new one for each request."""

    def __init__(self, address: str, lasting: int, fleeting: int) -> None:
        self.url = f"{address}/invocations"
        self.versions: list[str] = []
        self.failed: list[str] = []
        self._done = threading.Event()
        targets = [self._lasting] * lasting + [self._fleeting] * fleeting
        self._clients = [threading.Thread(target=target) for target in targets]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for client in self._clients:
            client.join()

    def _lasting(self) -> None:
        with httpx.Client(timeout=30) as client:
            self._ask(client.post)

    def _fleeting(self) -> None:
        self._ask(functools.partial(web.post, timeout=30))

    def _ask(self, post: Any) -> None:
        body = _npy(np.zeros((1, 8, 8, 1), np.uint8))
        while not self._done.is_set():
            try:
                answer = post(self.url, content=body, headers={"content-type": "application/x-npy"})
            except httpx.HTTPError as error:
                self.failed.append(repr(error))
                continue
            if answer.status_code == 200:
                self.versions.append(answer.json()["model_version"])
            else:
                self.failed.append(answer.text)
            time.sleep(0.002)  # leaves the servers some of a small machine


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
