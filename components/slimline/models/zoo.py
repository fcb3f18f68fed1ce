"""Networks of our own: every one takes `classes` and `channels`, and returns a `torch.nn.Module`.

They are put together from torch's own layers, so that parameter names are those that published
weights use and every structural edit finds a layer whose attributes it knows.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING, Literal

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    Layers = dict[str, nn.Module]


def small_cnn(
    widths: Sequence[int] = (16, 32, 64), *, classes: int = 10, channels: int = 1
) -> nn.Module:
    """Convolution, batch norm, ReLU for each width, halved between, then average pooling.

    Fits images from 8x8 on; every further width halves the image once more.
    """
    from torch import nn

    layers: Layers = {}
    before = channels
    for i, width in enumerate(widths, 1):
        if i > 1:
            layers[f"pool{i - 1}"] = nn.MaxPool2d(2)
        layers |= {f"conv{i}": _conv(before, width), f"bn{i}": nn.BatchNorm2d(width)}
        layers[f"relu{i}"] = nn.ReLU()
        before = width
    return _sequence(layers | _head("linear", before, classes))


def cifar_resnet(
    depth: int = 20,
    shortcut: Literal["A", "B"] = "A",
    widths: Sequence[int] = (16, 32, 64),
    blocks: Sequence[int] | None = None,
    *,
    classes: int = 10,
    channels: int = 3,
) -> nn.Module:
    """The ResNet for 32x32 images of He et al. 2015 (arXiv:1512.03385, section 4.2).

    Args:
        depth: 6 n + 2: 8, 14, 20, 32, 44, 56, 110.
        shortcut: where the width grows, A pads with zero channels, B uses a 1x1 convolution.
        widths: channels of the stages; each further one halves the image.
        blocks: residual blocks of each stage, in place of a depth with as many in each of three.
        classes: number of outputs.
        channels: of the image.

    Returns:
        A module with keys conv1, bn1, layer1.0.conv1 ... linear, as public weights name them.
    """
    from torch import nn

    if blocks is None:
        blocks = _blocks_of(depth)
    if not blocks or len(blocks) != len(widths) or min(blocks) < 1:
        msg = f"cifar_resnet: blocks {list(blocks)} for widths {list(widths)}: give one for each"
        raise BadParameters(msg)
    layers: Layers = {"conv1": _conv(channels, widths[0]), "bn1": nn.BatchNorm2d(widths[0])}
    layers["relu"] = nn.ReLU()
    skip = _padded if shortcut == "A" else _projected
    layers |= _stages(blocks, widths[0], widths, "shortcut", skip)
    return _sequence(layers | _head("linear", widths[-1], classes))


def resnet18(
    width: int = 64,
    stem: Literal["32px", "imagenet"] = "32px",
    *,
    classes: int = 10,
    channels: int = 3,
) -> nn.Module:
    """ResNet-18 of He et al. 2015 (arXiv:1512.03385).

    Args:
        width: channels of the first stage; each further one doubles them.
        stem: `32px` starts with a 3x3 convolution at full size, `imagenet` with 7x7 and pooling.
        classes: number of outputs.
        channels: of the image.

    Returns:
        A module with keys conv1, bn1, layer1.0.conv1, layer2.0.downsample ... fc.
    """
    from torch import nn

    small = stem == "32px"
    first = _conv(channels, width) if small else _conv(channels, width, kernel=7, stride=2)
    layers: Layers = {"conv1": first, "bn1": nn.BatchNorm2d(width), "relu": nn.ReLU()}
    if not small:
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    widths = [width, 2 * width, 4 * width, 8 * width]
    layers |= _stages([2, 2, 2, 2], width, widths, "downsample", _projected)
    return _sequence(layers | _head("fc", widths[-1], classes))


def mobilenet_v2(
    width_multiplier: float = 1.0, dropout: float = 0.2, *, classes: int = 10, channels: int = 3
) -> nn.Module:
    """MobileNetV2 of Sandler et al. 2018 (arXiv:1801.04381), with strides for 32x32 images.

    Args:
        width_multiplier: scales every width; widths are multiples of 8.
        dropout: before the last layer.
        classes: number of outputs.
        channels: of the image.
    """
    from torch import nn

    before = _multiple_of_8(32 * width_multiplier)
    layers: Layers = {"stem": _conv_bn(channels, before, kernel=3)}
    for expansion, width, repeats, first_stride in _INVERTED:
        after = _multiple_of_8(width * width_multiplier)
        for i in range(repeats):
            stride = first_stride if i == 0 else 1
            layers[f"block{len(layers)}"] = _inverted(before, after, stride, expansion)
            before = after
    last = _multiple_of_8(1280 * max(1.0, width_multiplier))
    layers["last"] = _conv_bn(before, last)
    head = _head("linear", last, classes)
    linear = head.pop("linear")
    return _sequence({**layers, **head, "dropout": nn.Dropout(dropout), "linear": linear})


_INVERTED = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, width, repeats, stride of the first: table 2 of the paper, less two halvings."""


@cache
def _residual_class() -> Callable[..., nn.Module]:
    """The one layer that torch does not have: layers in a row, with a way around them."""
    from torch import nn

    class Residual(nn.Sequential):
        """The children in order, plus the child called `skip_name` on the input."""

        def __init__(
            self, body: Layers, skip_name: str, skip: nn.Module, *, relu: bool = True
        ) -> None:
            super().__init__(OrderedDict(body))
            self.add_module(skip_name, skip)
            self.skip_name, self.relu = skip_name, relu

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
            x = input
            for name, layer in self.named_children():
                if name != self.skip_name:
                    x = layer(x)
            added: Tensor = x + self.get_submodule(self.skip_name)(input)
            return added.relu() if self.relu else added

    return Residual


def _blocks_of(depth: int) -> list[int]:
    if depth < 8 or (depth - 2) % 6:  # noqa: PLR2004 - 6 n + 2 with n of at least 1
        msg = f"cifar_resnet: depth {depth} is not 6 n + 2; give 8, 14, 20, 32, 44, 56 or 110"
        raise BadParameters(msg)
    return [(depth - 2) // 6] * 3


def _stages(
    blocks: Sequence[int],
    before: int,
    widths: Sequence[int],
    skip_name: str,
    skip: Callable[[int, int, int], nn.Module],
) -> Layers:
    from torch import nn

    stages: Layers = {}
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
        row: list[nn.Module] = []
        for i in range(count):
            stride = 2 if stage > 1 and i == 0 else 1
            body: Layers = {
                "conv1": _conv(before, width, stride=stride),
                "bn1": nn.BatchNorm2d(width),
                "relu1": nn.ReLU(),
                "conv2": _conv(width, width),
                "bn2": nn.BatchNorm2d(width),
            }
            row.append(_residual_class()(body, skip_name, skip(before, width, stride)))
            before = width
        stages[f"layer{stage}"] = nn.Sequential(*row)
    return stages


def _inverted(before: int, after: int, stride: int, expansion: int) -> nn.Module:
    from torch import nn

    hidden = before * expansion
    body: Layers = {}
    if expansion > 1:
        body["expand"] = _conv_bn(before, hidden)
    body["depthwise"] = _conv_bn(hidden, hidden, kernel=3, stride=stride, groups=hidden)
    body["project"] = _sequence(
        {"conv": _conv(hidden, after, kernel=1), "bn": nn.BatchNorm2d(after)}
    )
    if stride == 1 and before == after:
        return _residual_class()(body, "skip", nn.Identity(), relu=False)
    return _sequence(body)


def _padded(before: int, after: int, stride: int) -> nn.Module:
    """Every second pixel, then zero channels on both sides: option A."""
    from torch import nn

    if stride == 1 and before == after:
        return nn.Identity()
    left = (after - before) // 2
    return _sequence(
        {
            "subsample": nn.MaxPool2d(1, stride=stride),
            "pad": nn.ConstantPad3d((0, 0, 0, 0, left, after - before - left), 0.0),
        }
    )


def _projected(before: int, after: int, stride: int) -> nn.Module:
    """A 1x1 convolution with batch norm: option B."""
    from torch import nn

    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(_conv(before, after, kernel=1, stride=stride), nn.BatchNorm2d(after))


def _conv(before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    from torch import nn

    made = nn.Conv2d(
        before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def _conv_bn(
    before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Module:
    from torch import nn

    conv = _conv(before, after, kernel, stride, groups)
    return _sequence({"conv": conv, "bn": nn.BatchNorm2d(after), "relu": nn.ReLU6()})


def _head(name: str, width: int, classes: int) -> Layers:
    from torch import nn

    layers: Layers = {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return {**layers, name: nn.Linear(width, classes)}


def _sequence(layers: Layers) -> nn.Sequential:
    from torch import nn

    return nn.Sequential(OrderedDict(layers))


def _multiple_of_8(width: float) -> int:
    return max(8, int(width + 4) // 8 * 8)
