"""The page that tells what was tried, measured and chosen, and why."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from slimline.quantize.work import Table

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;"
    "color:#222}h1{font-size:1.5rem}h2{font-size:1.05rem;margin:1.4rem 0 .2rem}"
    "td,th{padding:.1rem 1rem .1rem 0;text-align:left;vertical-align:top}th{color:#666}"
)


def write_page(
    target: Path,
    title: str,
    reasons: Sequence[str],
    numbers: Mapping[str, Any],
    tables: Sequence[Table],
) -> None:
    """Write `index.html` into the directory of the report artifact."""
    sentences = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    facts = "".join(_row((name.replace("_", " "), value)) for name, value in numbers.items())
    parts = "".join(
        f"<h2>{escape(t.title)}</h2><table>{_row(t.header, 'th')}"
        f"{''.join(_row(row) for row in t.rows)}</table>"
        for t in tables
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1><ul>{sentences}</ul>"
        f"<table>{facts}</table>{parts}</html>\n"
    )
    (target / "index.html").write_text(page, encoding="utf-8")


def _row(cells: Sequence[Any], tag: str = "td") -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(_text(cell))}</{tag}>' for cell in cells)}</tr>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_text(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(v) for v in value) or "none"
    return "-" if value is None else str(value)
