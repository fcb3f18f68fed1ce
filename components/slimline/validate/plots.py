"""Plots and small pictures as data URIs, so that a report is one file."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slimline.measure.evaluation import StageNumbers
    from slimline.measure.latency import Latency

_INK, _BAR, _LAST = "#22303c", "#9db4c8", "#1f6fb2"
_MOST_NAMED_CLASSES, _SHORT = 40, 3


def metric_plot(stages: Sequence[StageNumbers], name: str) -> str:
    """The metric of each stage with its interval."""
    figure, axes = _figure(len(stages))
    for row, stage in enumerate(stages):
        a = stage.measured
        spread = [[a.value - a.low], [a.high - a.value]]
        axes.errorbar(a.value, row, xerr=spread, fmt="o", capsize=4, color=_colour(row, stages))
    _name_rows(axes, stages, name)
    return _svg(figure)


def size_plot(stages: Sequence[StageNumbers]) -> str:
    """Size of each stage's file."""
    figure, axes = _figure(len(stages))
    for row, stage in enumerate(stages):
        axes.barh(row, stage.bytes / 1000, height=0.5, color=_colour(row, stages))
    _name_rows(axes, stages, "model.onnx in kB (1000 bytes)")
    return _svg(figure)


def latency_plot(stages: Sequence[StageNumbers], times: Sequence[Latency]) -> str:
    """Distribution over rounds: quartiles in the box, 5 % to 95 % by the whiskers."""
    figure, axes = _figure(len(stages))
    axes.boxplot(
        [time.rounds_ms for time in times],
        positions=range(len(stages)),
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        widths=0.5,
        medianprops={"color": _LAST},
    )
    _name_rows(axes, stages, "ms for one example")
    return _svg(figure)


def front_plot(
    stages: Sequence[StageNumbers],
    drops: Sequence[float],
    costs: Sequence[float],
    *,
    drop: str,
    cost: str,
) -> str:
    """Drop against a cost, both better when less; a dominated stage is hollow, the front a line."""
    figure, axes = _figure(0)
    figure.set_size_inches(5.2, 3.4)
    points = list(zip(costs, drops, strict=True))
    beaten = dominated(points)
    front = sorted(point for point, worse in zip(points, beaten, strict=True) if not worse)
    axes.plot(*zip(*front, strict=True), color=_BAR, drawstyle="steps-post", zorder=1)
    for row, ((x, y), worse) in enumerate(zip(points, beaten, strict=True)):
        colour = _colour(row, stages)
        axes.scatter(x, y, s=46, color="w" if worse else colour, edgecolors=colour, zorder=2)
        named = _plain(stages[row].stage) + (" (dominated)" if worse else "")
        axes.annotate(named, (x, y), xytext=(6, 5), textcoords="offset points", fontsize=9)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(cost)
    axes.set_ylabel(drop)
    axes.margins(0.18, 0.2)
    axes.grid(alpha=0.3)
    return _svg(figure)


def dominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether another point is no worse in both numbers and better in one; less is better."""
    return [
        any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in points
        )
        for point in points
    ]


def reliability_plot(stages: Sequence[StageNumbers]) -> str:
    """How often answers are right that are as sure as this; the dotted line is perfect."""
    figure, axes = _figure(0)
    figure.set_size_inches(5.2, 3.8)
    axes.plot([0, 1], [0, 1], linestyle=":", color=_INK)
    for stage, colour in ((stages[0], _BAR), (stages[-1], _LAST)):
        x, y = zip(*((b.confidence, b.accuracy) for b in stage.reliability), strict=True)
        axes.plot(x, y, marker="o", markersize=4, color=colour, label=_plain(stage.stage))
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return _svg(figure)


def confusion_plot(table: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Rows: the true class; columns: the answer; counts, darker for more of the row."""
    figure, axes = _figure(0)
    figure.set_size_inches(5.2, 4.8)
    share = table / table.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    if len(labels) <= _MOST_NAMED_CLASSES:
        named = [_plain(label) for label in labels]
        turned = 90 if max(map(len, labels)) > _SHORT else 0
        axes.set_xticks(range(len(labels)), named, rotation=turned, fontsize=9)
        axes.set_yticks(range(len(labels)), named, fontsize=9)
    for (row, column), count in _cells(table):
        white = share[row, column] > 0.5  # noqa: PLR2004 - dark half of the scale
        axes.text(
            column, row, count, ha="center", va="center", fontsize=9, color="w" if white else _INK
        )
    return _svg(figure)


def picture(image: NDArray[np.uint8]) -> str:
    """An example of shape (height, width, 1 or 3), uint8, as a PNG."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    grey = image.shape[2] == 1
    pixels = image[:, :, 0] if grey else image[:, :, :3]
    imsave(buffer, pixels, format="png", cmap="gray", vmin=0, vmax=255)
    return _data_uri("image/png", buffer.getvalue())


def _plain(text: str) -> str:
    """A name with a dollar in it is no formula."""
    return text.replace("$", r"\$")


def _cells(table: NDArray[np.int64]) -> list[tuple[tuple[int, int], str]]:
    if len(table) > _MOST_NAMED_CLASSES // 2:
        return []
    return [
        ((row, column), str(int(count)))
        for row, line in enumerate(table)
        for column, count in enumerate(line)
        if count
    ]


def _figure(rows: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.9 + 0.42 * rows), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _name_rows(axes: Any, stages: Sequence[StageNumbers], x_label: str) -> None:
    axes.set_yticks(range(len(stages)), [_plain(stage.stage) for stage in stages])
    axes.set_ylim(len(stages) - 0.5, -0.5)
    axes.set_xlabel(x_label)
    axes.grid(axis="x", alpha=0.3)


def _colour(row: int, stages: Sequence[StageNumbers]) -> str:
    return _LAST if row == len(stages) - 1 else _BAR


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "slimline"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _data_uri("image/svg+xml", buffer.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
