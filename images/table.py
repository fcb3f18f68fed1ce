"""What `make images` prints at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from images.build import Built

_MEGABYTE = 1e6


def render(built: Sequence[Built]) -> str:
    """One line for each image: size, what of it no other has, seconds, what runs name it by.

    Below, what is to be said of one.
    """
    lines = [f"{'image':<9}{'MB':>7}{'own MB':>8}{'s':>7}  digest"]
    for one in built:
        size, own = one.image.size / _MEGABYTE, (one.image.size - one.shared) / _MEGABYTE
        lines.append(
            f"{one.name:<9}{size:>7.0f}{own:>8.0f}{one.seconds:>7.1f}  {one.image.reference}"
        )
    bases = {one.shared for one in built}
    total = sum(one.image.size - one.shared for one in built) + (max(bases) if bases else 0)
    lines.append(f"together {total / _MEGABYTE:>6.0f}: what images share is stored once")
    lines += [f"{one.name}: {one.note}" for one in built if one.note]
    return "\n".join(lines) + "\n"
