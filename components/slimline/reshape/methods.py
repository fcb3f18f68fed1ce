"""The methods by name, and what holds for each: examples, tolerance, a reason for doing nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters, get_logger
from slimline.reshape.activations import swap_activations
from slimline.reshape.bench import Bench
from slimline.reshape.fold import fold_batch_norm
from slimline.reshape.grow import grow
from slimline.reshape.head import average_pool_head
from slimline.reshape.low_rank import low_rank
from slimline.reshape.merge_linear import merge_linear
from slimline.reshape.redundancy import remove_redundancy
from slimline.reshape.similar import merge_similar
from slimline.reshape.spec import PRESERVING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.reshape.spec import Reshape

log = get_logger(__name__)
_PROBE = 8


def reshape(module: nn.Module, job: Reshape, x: Tensor) -> Bench:
    """Change what the job's method finds in a network.

    Args:
        module: in evaluation mode; it stays as it is.
        job: says how.
        x: training examples that show the activations.

    Returns:
        The bench with the changed network, its edits, and the reasons.

    Raises:
        BadParameters: when nothing can be changed, with the reasons.
        BadData: when `torch.export` cannot read the network.
    """
    import torch

    tolerance = job.tolerance if job.method in PRESERVING else None
    probe = x[:_PROBE] if len(x) > 1 else torch.cat([x, x])
    bench = Bench(module, probe, tolerance=tolerance, layers=job.layers)
    _apply(bench, job, x)
    for layer, said in bench.changed.items():
        log.info("reshape: %s: %s", layer, said)
    for layer, why in bench.left_alone.items():
        log.info("reshape: %s is left alone: %s", layer, why)
    if not bench.changed:
        reasons = "; ".join(f"{k}: {v}" for k, v in list(bench.left_alone.items())[:5])
        msg = (
            f"{job.method} changed nothing: {reasons or 'the network has nothing it is for'}; "
            f"use another method, or change its parameters (layers is {job.layers!r})"
        )
        raise BadParameters(msg)
    return bench


def _apply(bench: Bench, job: Reshape, x: Tensor) -> None:
    match job.method:
        case "fold_batch_norm":
            fold_batch_norm(bench)
        case "merge_linear":
            merge_linear(bench)
        case "merge_similar":
            merge_similar(bench, job, x)
        case "average_pool_head":
            average_pool_head(bench, x)
        case "swap_activations":
            swap_activations(bench, job)
        case "low_rank":
            low_rank(bench, job)
        case "remove_redundancy":
            remove_redundancy(bench, job, x)
        case "grow":
            grow(bench, job, x)
