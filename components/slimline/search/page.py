"""The page of a search: the front as inline SVG, every network with how it ended."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from slimline.search.result import drop_of, upper_of
from slimline.search.space import chain_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from slimline.search.record import Record
    from slimline.search.result import TrialResult

_WIDTH, _HEIGHT, _EDGE = 640, 320, 54
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#222}h1{font-size:1.5rem}h2{font-size:1.05rem;margin:1.4rem 0 .2rem}"
    "table{border-collapse:collapse;font-size:13px}th{text-align:left}"
    "td,th{padding:.15rem .8rem .15rem 0;vertical-align:top;border-bottom:1px solid #eee}"
    "svg{width:100%;max-width:46rem}text{font-size:11px;fill:#555}"
    ".front{fill:none;stroke:#087f5b;stroke-width:2}.axis{stroke:#bbb;fill:none}"
    ".budget{stroke:#c2410c;stroke-dasharray:4 4}.number{text-align:right}"
)


def write_page(record: Record, target: Path) -> None:
    """Write `index.html` and `trials.json` into the directory of a report artifact."""
    record.save(target)
    limit = 100 * record.settings.max_drop
    plots = "".join(
        _plot(f"Drop in accuracy against {title}", record, axis, limit)
        for title, axis in (("times faster", "speedup"), ("times smaller", "shrink"))
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in _COLUMNS)
    rows = "".join(_rows(record))
    title = "Search: the front"
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1><p><b>{escape(record.choice.reason)}</b></p>"
        f"<p>{len(record.entries)} networks in {record.minutes:g} minutes. Accuracy is that of the "
        "selection split, which chose: validate proves the choice on other images. Latencies were "
        "measured beside the teacher's in one run; another run measures others.</p>"
        f"{plots}<h2>All networks</h2><table><tr>{head}</tr>{rows}</table></html>\n"
    )
    (target / "index.html").write_text(page)


_COLUMNS = (
    *("", "network", "epochs", "drop, points", "at most", "times faster", "times smaller"),
    *("bytes", "ended", "why"),
)


def _rows(record: Record) -> list[str]:
    front, chosen = {r.key for r in record.front}, record.choice.result.key
    made = []
    for entry in record.entries:
        key = entry.proposal.key
        mark = "chosen" if key == chosen else "front" if key in front else ""
        cells = [mark, chain_in_words(entry.chain), *_cells(record, entry.result)]
        cells += [str(entry.status), entry.reason]
        made.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return made


def _cells(record: Record, result: TrialResult | None) -> list[str]:
    if result is None or result.measured is None:
        return [""] * 6
    epochs = "+".join(map(str, result.epochs)) or "untrained"
    drop = upper = ""
    if result.answers:
        epochs = epochs if result.epochs else "none needed"
        drop = f"{100 * drop_of(result.answers, record.settings):.2f}"
        upper = f"{100 * upper_of(result.answers, record.settings):.2f}"
    speedup, shrink = _place(record, result)[0], _place(record, result)[1]
    return [epochs, drop, upper, f"{speedup:.2f}", f"{shrink:.2f}", f"{result.measured.bytes:,}"]


def _place(record: Record, result: TrialResult) -> tuple[float, float, float]:
    """Times faster, times smaller, and the drop in points."""
    assert result.measured is not None  # noqa: S101 - asked of measured networks only
    assert record.baseline.measured is not None  # noqa: S101
    shrink = record.baseline.measured.bytes / result.measured.bytes
    drop = (
        100 * drop_of(result.answers, record.settings) if result.answers and result.chain else 0.0
    )
    return result.measured.speedup.value, shrink, drop


def _plot(title: str, record: Record, axis: str, limit: float) -> str:
    """A point for each trained network; the front in green, the chosen one ringed."""
    trained = [e.result for e in record.entries if e.result and e.result.answers]
    everyone = [record.baseline, *trained]
    x = [_place(record, r)[0 if axis == "speedup" else 1] for r in everyone]
    y = [_place(record, r)[2] for r in everyone]
    right, (low, high) = max(x) * 1.05, (min(0.0, *y), max(limit, *y) * 1.05 + 1e-9)

    def at(px: float, py: float) -> tuple[float, float]:
        across = _EDGE + px / right * (_WIDTH - 2 * _EDGE)
        return across, _EDGE + (py - low) / (high - low) * (_HEIGHT - 2 * _EDGE)

    front, chosen = {r.key for r in record.front}, record.choice.result.key
    points = [at(*pair) for pair in zip(x, y, strict=True)]
    marks = "".join(
        _mark(point, result, on_front=result.key in front, chosen=result.key == chosen)
        for point, result in zip(points, everyone, strict=True)
    )
    line = sorted(p for p, r in zip(points, everyone, strict=True) if r.key in front)
    return f"<h2>{escape(title)}</h2>" + _framed(marks, line, at(0, limit)[1], right, (low, high))


def _mark(point: tuple[float, float], result: TrialResult, *, on_front: bool, chosen: bool) -> str:
    px, py = point
    colour = "#087f5b" if on_front else "#222" if not result.chain else "#aaa"
    title = f"<title>{escape(chain_in_words(result.chain))}</title>"
    ring = f'<circle cx="{px:.1f}" cy="{py:.1f}" r="8" fill="none" stroke="#c2410c"/>'
    dot = f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}">{title}</circle>'
    return dot + (ring if chosen else "")


def _framed(
    marks: str,
    line: Sequence[tuple[float, float]],
    budget: float,
    right: float,
    drops: tuple[float, float],
) -> str:
    bottom, end = _HEIGHT - _EDGE, _WIDTH - _EDGE
    joined = " ".join(f"{px:.1f},{py:.1f}" for px, py in line)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<path class="axis" d="M{_EDGE} {_EDGE}V{bottom}H{end}"/>'
        f'<line class="budget" x1="{_EDGE}" x2="{end}" y1="{budget:.1f}" y2="{budget:.1f}"/>'
        f'<text x="{end}" y="{budget - 4:.1f}" text-anchor="end">largest accepted drop</text>'
        f'<text x="{_EDGE - 6}" y="{_EDGE + 4}" text-anchor="end">{drops[0]:.3g}</text>'
        f'<text x="{_EDGE - 6}" y="{bottom}" text-anchor="end">{drops[1]:.3g}</text>'
        f'<text x="{_EDGE}" y="{bottom + 16}">0</text>'
        f'<text x="{end}" y="{bottom + 16}" text-anchor="end">{right:.3g}</text>'
        f'<polyline class="front" points="{joined}"/>{marks}</svg>'
    )
