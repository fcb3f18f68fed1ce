"""The report for people: one page that opens offline, and GX's own result beside it.

No time and no path is in it, so equal data give equal bytes.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from slimline.check_data.frames import class_counts, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from slimline.check_data.suite import Finding, Validation
    from slimline.data.dataset import Examples, Split

_PER_CLASS = 10
_MOST_CLASSES = 100
_MOST_FEATURES = 50
_SIDE = 48
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}
td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
td.n{text-align:right;width:3rem;font-variant-numeric:tabular-nums}
.yes{color:#0a6b2d}.no{color:#b00020}
.bar{background:#4a7ebb;height:.7rem;display:inline-block}
img{image-rendering:pixelated;vertical-align:middle}
"""


@dataclass(frozen=True)
class Evidence:
    """Everything the report shows."""

    name: str
    findings: tuple[Finding, ...]
    splits: Mapping[Split, Examples]
    numbers: dict[str, Any]
    validations: tuple[Validation, ...]


def write_report(evidence: Evidence, target: Path) -> None:
    """Write `index.html` and `validation.json`."""
    results = [v.result for v in evidence.validations]
    text = json.dumps(results, indent=1, sort_keys=True, allow_nan=False)
    (target / "validation.json").write_text(text)
    (target / "index.html").write_text("\n".join(_page(evidence)), encoding="utf-8")


def _page(evidence: Evidence) -> Iterator[str]:
    train = evidence.splits["train"]
    name = escape(evidence.name)
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}: data check</title>"
    yield f"<style>{_STYLE}</style><h1>Data check: {name}</h1>"
    passed = evidence.numbers["expectations_passed"]
    of = evidence.numbers["expectations_evaluated"]
    shape = shape_text(train.info.shape)
    yield f"<p>{passed} of {of} expectations hold. Examples are {train.info.dtype} {shape}.</p>"
    yield from _expectations(evidence.findings)
    classified = train.info.task == "classification"
    if classified:
        yield "<h2>Classes</h2>"
        yield from _classes(evidence.splits)
    if train.info.dtype == "uint8":
        few = f"At most {_PER_CLASS} of a class." if classified else "The first ones."
        yield f"<h2>Training images</h2><p>{few}</p>"
        yield from _contact_sheet(train)
    else:
        yield "<h2>Features in training</h2>"
        yield from _features(train)
    yield "<h2>Numbers</h2>"
    scalars = {k: v for k, v in evidence.numbers.items() if isinstance(v, int | float | str)}
    yield from _table(("", ""), [(k.replace("_", " "), v) for k, v in scalars.items()])
    yield "<p><a href=validation.json>What Great Expectations answered</a></p></html>"


def _expectations(findings: tuple[Finding, ...]) -> Iterator[str]:
    yield "<h2>Expectations</h2><table><tr><th>Check<th>Expected<th>Observed<th></tr>"
    for f in findings:
        mark = "<td class=yes>holds" if f.passed else "<td class=no>fails"
        told = f.key.replace("_", " "), f.expected, _text(f.observed)
        cells = "".join(f"<td>{escape(c)}" for c in told)
        yield f"<tr>{cells}{mark}</tr>"
    yield "</table>"


def _classes(splits: Mapping[Split, Examples]) -> Iterator[str]:
    counts = {split: class_counts(examples) for split, examples in splits.items()}
    labels = splits["train"].info.labels
    most = max(max(column) for column in counts.values())
    heads = "".join(f"<th colspan=2>{split}" for split in counts)
    yield f"<table><tr><th>Class{heads}</tr>"
    for i, label in enumerate(labels):
        cells = "".join(
            f"<td class=n>{c[i]}<td><i class=bar style='width:{7 * c[i] / most:.2f}rem'></i>"
            for c in counts.values()
        )
        yield f"<tr><td>{escape(label)}{cells}</tr>"
    yield "</table>"


def _contact_sheet(train: Examples) -> Iterator[str]:
    import numpy as np

    if train.info.task != "classification":
        yield "".join(_image(image) for image in train.x[:_PER_CLASS])
        return
    yield "<table>"
    for i, label in enumerate(train.info.labels[:_MOST_CLASSES]):
        chosen = np.flatnonzero(train.y == i)[:_PER_CLASS]
        images = "".join(_image(train.x[j]) for j in chosen)
        yield f"<tr><td>{escape(label)}<td>{images}</tr>"
    yield "</table>"


def _image(pixels: NDArray[np.generic]) -> str:
    """An image as an inline PNG; a large one is made small, a small one is shown larger."""
    import numpy as np
    import PIL.Image

    channels = pixels.shape[-1]
    mode = _MODES.get(channels, "L")
    shown = np.ascontiguousarray(pixels if channels in (3, 4) else pixels[..., 0])
    height, width = pixels.shape[:2]
    image = PIL.Image.frombytes(mode, (width, height), shown.tobytes())
    image.thumbnail((_SIDE, _SIDE))
    into = io.BytesIO()
    image.save(into, "PNG")
    data = base64.b64encode(into.getvalue()).decode()
    return f"<img height={_SIDE} alt='' src='data:image/png;base64,{data}'> "


def _features(train: Examples) -> Iterator[str]:
    columns = range(min(train.x.shape[1], _MOST_FEATURES))
    rows = []
    for i in columns:
        column = train.x[:, i].astype(float)
        found = column.min(), column.mean(), column.max(), column.std()
        rows.append((i, *(f"{v:.6g}" for v in found)))
    yield from _table(("Feature", "Min", "Mean", "Max", "Standard deviation"), rows)


def _text(value: Any) -> str:
    """A number with the digits that a person reads; the rest is in validation.json."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[str]:
    yield "<table><tr>" + "".join(f"<th>{h}" for h in heads) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(_text(cell))}" for cell in row) + "</tr>"
    yield "</table>"
