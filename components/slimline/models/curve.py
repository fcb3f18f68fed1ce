"""A page that shows how training went: the curve as inline SVG, the numbers beside it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from slimline.models.progress import Epoch

_WIDTH, _HEIGHT, _EDGE = 640, 170, 52
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;"
    "color:#222}h1{font-size:1.5rem}h2{font-size:1.05rem;margin:1.2rem 0 0}"
    "td{padding:.1rem 1rem .1rem 0;vertical-align:top}svg{width:100%}"
    "text{font-size:11px;fill:#555}.line{fill:none;stroke-width:2}.axis{stroke:#bbb}"
)


def write_report(
    target: Path, title: str, numbers: Mapping[str, Any], history: Sequence[Epoch]
) -> None:
    """Write `index.html` into the directory of a report artifact."""
    curves = "".join(
        [
            _curve("Accuracy on the selection split", [e.accuracy for e in history], "#087f5b"),
            _curve("Cross-entropy on the selection split", _losses(history), "#1f6fb2"),
            _curve("Training loss", [e.loss for e in history], "#c2410c"),
        ]
        if history
        else []
    )
    rows = "".join(
        f"<tr><td>{escape(k.replace('_', ' '))}</td><td>{escape(_text(v))}</td></tr>"
        for k, v in numbers.items()
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{curves}<table>{rows}</table></html>\n"
    )
    (target / "index.html").write_text(page)


def _losses(history: Sequence[Epoch]) -> list[float]:
    return [e.selection_loss for e in history]


def _curve(title: str, values: Sequence[float], colour: str) -> str:
    low, high = min(values), max(values)
    if low == high:  # a flat line runs through the middle
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    span = high - low
    step = (_WIDTH - 2 * _EDGE) / max(1, len(values) - 1)
    points = " ".join(
        f"{_EDGE + i * step:.1f},{_HEIGHT - _EDGE - (v - low) / span * (_HEIGHT - 2 * _EDGE):.1f}"
        for i, v in enumerate(values)
    )
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>'
        for x, y in (point.split(",") for point in points.split())
    )
    bottom, right = _HEIGHT - _EDGE, _WIDTH - _EDGE
    return (
        f'<h2>{escape(title)}</h2><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<path class="axis" d="M{_EDGE} {_EDGE}V{bottom}H{right}" fill="none"/>'
        f'<text x="2" y="{_EDGE}">{high:.4g}</text><text x="2" y="{bottom}">{low:.4g}</text>'
        f'<text x="{_EDGE}" y="{bottom + 16}">epoch 1</text>'
        f'<text x="{right}" y="{bottom + 16}" text-anchor="end">epoch {len(values)}</text>'
        f'<polyline class="line" stroke="{colour}" points="{points}"/>{dots}</svg>'
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_text(v)}" for k, v in value.items()) or "none"
    return str(value)
