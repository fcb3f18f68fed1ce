"""Start a network with the weights of a deeper one.

Sanh et al. 2019, "DistilBERT" (arXiv:1910.01108, section 3): a student takes one layer out of two
of its teacher, and learns faster than from fresh weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

log = get_logger(__name__)


def inherit(module: nn.Module, teacher: nn.Module) -> None:
    """Take over, in place, every weight that stands at the like place and has the same shape.

    Names must be equal, but for the numbers of rows of layers: these are spread evenly, so that a
    row of three blocks takes the first, the middle and the last of nine.

    Args:
        module: the network, with fresh weights for what does not fit.
        teacher: the trained one.

    Raises:
        BadParameters: when no weight fits.
    """
    own, given = module.state_dict(), teacher.state_dict()
    rows, their_rows = _rows(own), _rows(given)
    places = {name: _place(name, rows, their_rows) for name in own}
    if not take(module, {n: given[there] for n, there in places.items() if there in given}):
        msg = "inherit: no weight of the teacher fits the student: give layers its names and widths"
        raise BadParameters(msg)


def take(module: nn.Module, given: Mapping[str, Tensor]) -> bool:
    """Take over, in place, the tensors whose names and shapes the module has.

    Returns:
        False when there is no weight among them; then nothing was taken.
    """
    own = module.state_dict()
    taken = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape}
    if not any(tensor.ndim > 1 for tensor in taken.values()):  # a bias alone has learned nothing
        return False
    module.load_state_dict(taken, strict=False)
    fresh = sorted(own.keys() - taken.keys())
    log.info("%d tensors were taken over, fresh: %s", len(taken), fresh or "none")
    return True


def _rows(names: Iterable[str]) -> dict[str, int]:
    """How many numbered layers each module has."""
    rows: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        for i, part in enumerate(parts):
            if part.isdigit():
                row = ".".join(parts[:i])
                rows[row] = max(rows.get(row, 0), int(part) + 1)
    return rows


def _place(name: str, rows: Mapping[str, int], their_rows: Mapping[str, int]) -> str:
    """The name of the teacher's tensor at the like place."""
    parts, there = name.split("."), list[str]()
    for i, part in enumerate(parts):
        if part.isdigit():
            few, many = rows[".".join(parts[:i])], their_rows.get(".".join(there), 1)
            there.append(str(_spread(int(part), few, many)))
        else:
            there.append(part)
    return ".".join(there)


def _spread(index: int, few: int, many: int) -> int:
    return 0 if few == 1 else (2 * index * (many - 1) + few - 1) // (2 * (few - 1))
