"""The processes that fit one network together, each with its share of every batch.

The share of a process is every n-th example of the batch, as `DistributedSampler` gives it out, so
n processes take the same steps as one; only the order in which floats are added differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor


class Team:
    """This process among the others; alone, it is all of them."""

    def __init__(self, fabric: Fabric) -> None:
        self.size, self.rank = fabric.world_size, fabric.global_rank
        self.is_first = fabric.is_global_zero
        self.share = slice(self.rank, None, self.size)
        """Places of this process's examples in a batch, or in a split."""
        self._fabric = fabric
        self._signals = self._group_for_signals()

    def any(self, flag: bool) -> bool:  # noqa: FBT001 - one truth of each process
        """Whether it is true for any process, so that all do the same."""
        if self.size == 1:
            return flag
        import torch
        from torch import distributed

        flags = torch.tensor(int(flag))
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX, group=self._signals)
        return bool(flags)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of what each process has."""
        return self._reduced(value, "mean")

    def sum(self, value: Tensor) -> Tensor:
        """The sum of what each process has."""
        return self._reduced(value, "sum")

    def weight(self, batch: int, own: int) -> float:
        """What a mean over `own` examples counts for, so that the mean of all is the batch's."""
        return own * self.size / batch

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.any(flag=False)

    def _reduced(self, value: Tensor, how: str) -> Tensor:
        reduced: Tensor = self._fabric.all_reduce(value, reduce_op=how)  # type: ignore[assignment]
        return reduced

    def _group_for_signals(self) -> Any:
        """Between CPUs: a GPU that is asked in each step could not work ahead."""
        from torch import distributed

        if self.size == 1 or distributed.get_backend() == "gloo":
            return None
        return distributed.new_group(backend="gloo")
