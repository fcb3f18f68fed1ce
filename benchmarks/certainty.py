"""How often the gate errs, and how many images it needs: simulated, beside an unpaired test.

    python benchmarks/certainty.py [--samples 40000] [--out build/bench]

The gate accepts a candidate when the one-sided upper bound of its drop, at 95 % (Tango's, its level
set exactly), is within the margin. Here pairs are drawn with a known true drop:

1. At the margin (and beyond it) every acceptance is an error; at most 5 % may be. Rates come with a
   99 % Clopper-Pearson interval.
2. Below the margin acceptance is right: power, for several true drops and numbers of images.
3. Images needed for 80 % power by this test, and by an unpaired one (two models on two different
   sets of images, Farrington and Manning's score test of two proportions, 1990).
4. Other metrics: the same for the paired bootstrap, at the margin.

How much two models differ ("churn") is what decides: the share of images on which only one of them
is right. Figures of real pairs on CIFAR-10: 1 % (int8 of the same weights) to 8 % (distilled).
Writes certainty.json after each part, and goes on from it; then certainty.md. Takes a minute or two
on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta

from slimline.measure.bootstrap import paired_bound
from slimline.measure.exact import MOST_PAIRS, error_rate, exact_confidence, statistics
from slimline.measure.intervals import tango_upper
from slimline.measure.metrics import find_metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator
    from numpy.typing import NDArray

    Make = Callable[[Generator, int], tuple[NDArray[Any], NDArray[Any]]]

CONFIDENCE, MARGIN, ACCURACY = 0.95, 0.01, 0.92
COUNTS = (500, 1000, 2000, 5000, 10_000)
CHURNS = (0.015, 0.04, 0.08)
DROPS = (0.0, 0.0025, 0.005, 0.0075)
POWER, MOST_IMAGES = 0.8, 10_000_000


def level(count: int) -> float:
    """The z that the gate's bound uses for so many images."""
    exact = exact_confidence(count, MARGIN, CONFIDENCE) if count <= MOST_PAIRS else CONFIDENCE
    return NormalDist().inv_cdf(exact)


def check_against_the_gate(draw: Generator) -> int:
    """The rule for arrays gives the answer of the gate's own bound, on thousands of outcomes."""
    checked = 0
    for count, churn in product(COUNTS, CHURNS):
        confidence = exact_confidence(count, MARGIN, CONFIDENCE)
        pairs = draw.multinomial(count, (churn / 2 + 0.003, churn / 2 - 0.003, 1 - churn), 100)
        ours = statistics(pairs[:, 0], pairs[:, 1], count, MARGIN) <= -level(count)
        for (lost, won, _), accepted in zip(pairs.tolist(), ours.tolist(), strict=True):
            if accepted is not (tango_upper(lost, won, count, confidence) <= MARGIN):
                raise SystemExit(f"lost {lost}, won {won} of {count}: not what the gate answers")
            checked += 1
    return checked


def rate(
    draw: Generator, count: int, churn: float, drop: float, *, samples: int, z: float
) -> tuple[int, int]:
    """How many of so many simulated candidates are accepted."""
    shares = (churn + drop) / 2, (churn - drop) / 2, 1 - churn
    pairs = draw.multinomial(count, shares, samples).astype(np.float64)
    found = statistics(pairs[:, 0], pairs[:, 1], count, MARGIN)
    return int((found <= -z).sum()), samples


def worst_error(count: int, confidence: float) -> float:
    """The largest error over shares of differing images, summed over all outcomes, not drawn."""
    shares = np.geomspace(MARGIN * 1.001, 1, 97)
    return max(error_rate(count, MARGIN, float(share), confidence) for share in shares)


def interval(hits: int, of: int, confidence: float = 0.99) -> tuple[float, float]:
    """Clopper and Pearson's exact interval."""
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, hits, of - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, of - hits) if hits < of else 1.0
    return float(low), float(high)


def paired_power(
    draw: Generator, count: int, churn: float, drop: float, *, z: float, samples: int = 20_000
) -> float:
    hits, of = rate(draw, count, churn, drop, samples=samples, z=z)
    return hits / of


def unpaired_power(draw: Generator, count: int, drop: float, samples: int = 20_000) -> float:
    """Two independent sets of `count` images; Farrington and Manning's restricted estimate."""
    first = draw.binomial(count, ACCURACY, samples) / count
    last = draw.binomial(count, ACCURACY - drop, samples) / count
    before, after = restricted(first, last)
    spread = np.sqrt((before * (1 - before) + after * (1 - after)) / count)
    z = NormalDist().inv_cdf(CONFIDENCE)
    return float((first - last - MARGIN <= -z * spread).mean())


def restricted(first: Any, last: Any) -> tuple[Any, Any]:
    """Maximum-likelihood shares of two equal samples whose difference is the margin."""
    a, b = 2.0, -(2 + first + last + 3 * MARGIN)
    c = MARGIN**2 + MARGIN * (2 * first + 2) + first + last
    d = -first * MARGIN * (1 + MARGIN)
    v = b**3 / (3 * a) ** 3 - b * c / (6 * a * a) + d / (2 * a)
    u = np.sign(v) * np.sqrt(np.maximum(b * b / (3 * a) ** 2 - c / (3 * a), 0))
    ratio = np.clip(np.where(u == 0, 0, v / np.where(u == 0, 1, u**3)), -1, 1)
    before = 2 * u * np.cos((np.pi + np.arccos(ratio)) / 3) - b / (3 * a)
    before = np.clip(before, MARGIN, 1)
    return before, before - MARGIN


def needed(power: Callable[[int], float]) -> int:
    """The least number of images, to 1 %, for which `power(count)` is enough."""
    high = 100
    while power(high) < POWER:
        high *= 2
        if high > MOST_IMAGES:
            raise SystemExit("no number of images is enough")
    low = high // 2
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def errors_of_the_bootstrap(name: str, samples: int) -> dict[str, Any]:
    """False acceptances at the margin by another metric; the margin is the true drop."""
    draw, count = np.random.default_rng(2027), 500
    metric, make = find_metric(name, 5), MAKERS[name]
    sign = 1 if metric.higher_is_better else -1
    first, last = make(draw, 1_000_000)
    margin = sign * (metric.value(first) - metric.value(last))
    hits = 0
    for seed in range(samples):
        found = paired_bound(
            metric, *make(draw, count), confidence=CONFIDENCE, resamples=500, seed=seed
        )
        hits += found.upper <= margin
    low, high = interval(hits, samples)
    return {"metric": name, "images": count, "margin": margin, "samples": samples,
            "false_accepts": hits / samples, "low": low, "high": high}  # fmt: skip


def numbers(name: str) -> Make:
    metric = find_metric(name, 0)

    def make(draw: Generator, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        y = 2 * draw.standard_normal((count, 1))
        error = draw.standard_normal((count, 1))
        more = 1.1 * error + 0.3 * draw.standard_normal((count, 1))
        return metric.rows(y + error, y, None), metric.rows(y + more, y, None)

    return make


def classes(name: str) -> Make:
    metric = find_metric(name, 5)
    shares = np.array([0.4, 0.25, 0.2, 0.1, 0.05])

    def make(draw: Generator, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        y = draw.choice(5, count, p=shares)
        logits = draw.standard_normal((count, 5)) + 2.2 * np.eye(5)[y]
        worse = logits + 0.45 * draw.standard_normal((count, 5))
        return metric.rows(logits, y, None), metric.rows(worse, y, None)

    return make


MAKERS = {
    "rmse": numbers("rmse"),
    "r2": numbers("r2"),
    "macro_f1": classes("macro_f1"),
    "log_loss": classes("log_loss"),
}
PARTS = ("accuracy", *MAKERS)


def simulate(samples: int) -> dict[str, Any]:
    draw = np.random.default_rng(2026)
    began = time.perf_counter()
    checked = check_against_the_gate(draw)
    errors = []
    for count, churn, drop in product(COUNTS, CHURNS, (MARGIN, 1.5 * MARGIN)):
        if drop > churn:
            continue
        hits, of = rate(draw, count, churn, drop, samples=samples, z=level(count))
        low, high = interval(hits, of)
        errors.append({"images": count, "churn": churn, "drop": drop, "accepted": hits / of,
                       "low": low, "high": high})  # fmt: skip
    power = [
        {
            "images": n,
            "churn": c,
            "drop": d,
            "accepted": paired_power(draw, n, c, d, z=level(n), samples=samples),
        }
        for n, c, d in product(COUNTS, CHURNS, DROPS)
    ]
    images, z = [], NormalDist().inv_cdf(CONFIDENCE)
    for drop in DROPS[:3]:
        unpaired = needed(lambda count, d=drop: unpaired_power(draw, count, d))
        for churn in CHURNS:
            paired = needed(lambda count, c=churn, d=drop: paired_power(draw, count, c, d, z=z))
            power_there = paired_power(draw, paired, churn, drop, z=level(paired))
            images.append({"churn": churn, "drop": drop, "paired": paired, "unpaired": unpaired,
                           "ratio": unpaired / paired, "power": power_there})  # fmt: skip
    exact = [
        {"images": n, "score": worst_error(n, CONFIDENCE),
         "exact": worst_error(n, exact_confidence(n, MARGIN, CONFIDENCE))}
        for n in COUNTS
    ]  # fmt: skip
    return {"checked": checked, "samples": samples, "exact": exact, "errors": errors,
            "power": power, "images": images,
            "seconds": round(time.perf_counter() - began, 1)}  # fmt: skip


def table(found: dict[str, Any]) -> str:
    worst = max((row for row in found["errors"] if row["drop"] == MARGIN),
                key=lambda row: row["accepted"])  # fmt: skip
    pooled = [row for row in found["errors"] if row["drop"] == MARGIN]
    mean = sum(row["accepted"] for row in pooled) / len(pooled)
    low, high = interval(round(mean * len(pooled) * found["samples"]),
                         len(pooled) * found["samples"])  # fmt: skip
    head = (
        f"Margin {100 * MARGIN:g} point, {CONFIDENCE:.0%} one-sided, baseline accuracy "
        f"{ACCURACY:.0%}, {found['samples']:,} simulated candidates a cell ({found['seconds']:g} "
        f"s). The vectorised rule gave the gate's own answer on {found['checked']:,} outcomes."
    )
    errors = (
        f"False acceptances at the margin: {mean:.2%} over all cells (99 % interval {low:.2%} to "
        f"{high:.2%}), {worst['accepted']:.2%} ({worst['low']:.2%} to {worst['high']:.2%}) in the "
        f"worst, {worst['images']} images and churn {worst['churn']:.1%}."
    )
    lines = [
        head,
        "",
        errors,
        "",
        "Summed over all outcomes, at the worst of 97 shares of differing images:",
        "",
        "| images | error of Tango's bound | with its level set exactly (the gate) |",
        "|---|---|---|",
        *(f"| {r['images']:,} | {r['score']:.2%} | {r['exact']:.2%} |" for r in found["exact"]),
        "",
        "Accepted, by true drop (at 1.00 and 1.50 points each is an error):",
        "",
        "| images | churn | " + " | ".join(f"{100 * d:.2f}" for d in (*DROPS, 0.01, 0.015)) + " |",
        "|---|---|" + "---|" * 6,
    ]
    cells = {(r["images"], r["churn"], r["drop"]): r["accepted"]
             for r in (*found["power"], *found["errors"])}  # fmt: skip
    for count, churn in product(COUNTS, CHURNS):
        row = [cells.get((count, churn, drop)) for drop in (*DROPS, MARGIN, 1.5 * MARGIN)]
        told = " | ".join("-" if v is None else f"{100 * v:.1f} %" for v in row)
        lines.append(f"| {count:,} | {churn:.1%} | {told} |")
    lines += [
        "",
        f"Images for {POWER:.0%} power; the unpaired test needs so many for each model:",
        "",
        "| true drop | churn | paired (the gate) | its power there | unpaired | times fewer |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {100 * r['drop']:.2f} | {r['churn']:.1%} | {r['paired']:,} | {r['power']:.1%} | "
        f"{r['unpaired']:,} | {r['ratio']:.1f} |"
        for r in found["images"]
    ]
    lines += [
        "",
        "Other metrics, paired bootstrap (BCa, 500 resamples), true drop at the margin:",
        "",
        "| metric | images | margin | false acceptances (99 % interval) |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {r['metric']} | {r['images']} | {r['margin']:.4f} | {r['false_accepts']:.1%} "
        f"({r['low']:.1%} to {r['high']:.1%}), {r['samples']:,} candidates |"
        for r in found["bootstrap"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=40_000, help="candidates in a cell")
    parser.add_argument("--bootstraps", type=int, default=1000, help="candidates a metric")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--only", choices=PARTS, help="do this part, and leave the others")
    job = parser.parse_args()
    job.out.mkdir(parents=True, exist_ok=True)
    file = job.out / "certainty.json"
    done = json.loads(file.read_text()) if file.is_file() else {}
    for part in [job.only] if job.only else PARTS:
        size = job.samples if part == "accuracy" else job.bootstraps
        if done.get(part, {}).get("samples") != size:
            done[part] = (
                simulate(size) if part == "accuracy" else (errors_of_the_bootstrap(part, size))
            )
            file.write_text(json.dumps(done, indent=1))
    if set(done) == set(PARTS):
        found = {**done["accuracy"], "bootstrap": [done[name] for name in MAKERS]}
        (job.out / "certainty.md").write_text(table(found))
        print(table(found))


if __name__ == "__main__":
    main()
