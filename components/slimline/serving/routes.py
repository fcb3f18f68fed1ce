"""Who answers what: SageMaker's routes, the Open Inference Protocol v2, probes and metrics.

Vertex AI and Azure ML bring their own paths in variables; they will be further entries of `TABLE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from slimline.serving import metrics
from slimline.serving.codecs import invocations, v2
from slimline.serving.http import HttpError, Response, as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from slimline.serving.http import Request
    from slimline.serving.model import ServedModel
    from slimline.serving.state import State


@dataclass(frozen=True)
class Route:
    """One path: how it is counted, what it answers, and whether that is heavy.

    A light route answers at once from the state; a heavy one (a prediction) is admitted, its body
    is read, and its `predict` runs in a thread.
    """

    pattern: str
    method: str
    light: Callable[[State, Request], Response] | None = None
    predict: Callable[[ServedModel, Request, int], Response] | None = None


def find_route(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """The route of a path, and what stands at its open places.

    Raises:
        HttpError: 404 when there is none, 405 when it takes another method.
    """
    parts = tuple(path.strip("/").split("/"))
    others: list[str] = []
    for route, shape in _SHAPES.get(len(parts), ()):
        if any(s != p and s is not None for s, p in zip(shape, parts, strict=True)):
            continue
        if route.method == method or (method == "HEAD" and route.method == "GET"):
            return route, tuple(p for s, p in zip(shape, parts, strict=True) if s is None)
        others.append(route.method)
    if others:
        raise HttpError(405, f"{path:.100} takes {', '.join(others)}, not {method:.20}")
    raise HttpError(404, f"there is nothing at {path:.100}")


def _invoke(model: ServedModel, request: Request, max_batch: int) -> Response:
    raw = invocations.decode(request, model, max_batch)
    return invocations.encode(model.predict(raw), model)


def _infer(model: ServedModel, request: Request, max_batch: int) -> Response:
    _named(model, request)
    raw, wanted = v2.decode(request, model, max_batch)
    return v2.encode(model.predict(raw), model, wanted)


def _live(_state: State, _request: Request) -> Response:
    return as_json({"live": True})


def _ready(state: State, _request: Request) -> Response:
    if state.reason:
        raise HttpError(503, state.reason, retry=True)
    return as_json({"ready": True, "package_digest": state.require_model().digest})


def _model_ready(state: State, request: Request) -> Response:
    model = state.require_model()
    _named(model, request)
    if state.reason:
        raise HttpError(503, state.reason, retry=True)
    return as_json({"name": model.name, "ready": True})


def _model_metadata(state: State, request: Request) -> Response:
    model = state.require_model()
    _named(model, request)
    return as_json(v2.metadata(model))


def _server_metadata(_state: State, _request: Request) -> Response:
    about: dict[str, Any] = {"name": "slimline", "version": version("slimline")}
    return as_json({**about, "extensions": ["binary_tensor_data"]})


def _metrics(state: State, _request: Request) -> Response:
    text = state.metrics.text(ready=not state.reason, model=state.describe())
    return Response(text.encode(), content_type=metrics.CONTENT_TYPE)


def _named(model: ServedModel, request: Request) -> None:
    for given, served in zip(request.names, (model.name, model.version), strict=False):
        if given != served:
            raise HttpError(404, f"{given!r:.80} is not served here, {served!r} is")


TABLE = (
    Route("/ping", "GET", light=_ready),
    Route("/invocations", "POST", predict=_invoke),
    Route("/livez", "GET", light=_live),
    Route("/readyz", "GET", light=_ready),
    Route("/metrics", "GET", light=_metrics),
    Route("/v2", "GET", light=_server_metadata),
    Route("/v2/health/live", "GET", light=_live),
    Route("/v2/health/ready", "GET", light=_ready),
    Route("/v2/models/{name}", "GET", light=_model_metadata),
    Route("/v2/models/{name}/ready", "GET", light=_model_ready),
    Route("/v2/models/{name}/infer", "POST", predict=_infer),
    Route("/v2/models/{name}/versions/{version}", "GET", light=_model_metadata),
    Route("/v2/models/{name}/versions/{version}/ready", "GET", light=_model_ready),
    Route("/v2/models/{name}/versions/{version}/infer", "POST", predict=_infer),
)


def _by_length() -> dict[int, list[tuple[Route, tuple[str | None, ...]]]]:
    shapes: dict[int, list[tuple[Route, tuple[str | None, ...]]]] = {}
    for route in TABLE:
        parts = route.pattern.strip("/").split("/")
        shape = tuple(None if part.startswith("{") else part for part in parts)
        shapes.setdefault(len(shape), []).append((route, shape))
    return shapes


_SHAPES = _by_length()
