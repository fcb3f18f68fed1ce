"""A zoo of small networks, one for each structure that channels may run through.

Each is a factory with fresh weights, a few thousand parameters, and takes 16x16 images unless
`STRUCTURES` says otherwise. They are written as such networks are found in the wild: sizes from
attributes, from the shape of what comes in, or as numbers in the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - as everyone calls it
from torch import nn

from slimline.models import zoo

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = 5
IMAGE = (3, 16, 16)


class Structure(NamedTuple):
    """A factory, and the shape of one example of its input."""

    factory: Callable[[], nn.Module]
    shape: tuple[int, ...] = IMAGE
    vocabulary: int = 0
    """Whole numbers below this one in place of random ones, when it is not 0."""

    def example(self, batch: int = 2, seed: int = 0) -> torch.Tensor:
        draw = torch.Generator().manual_seed(seed)
        if self.vocabulary:
            tokens = torch.randint(0, self.vocabulary, (batch, *self.shape), generator=draw)
            return tokens.float()
        return torch.randn(batch, *self.shape, generator=draw)

    def network(self, seed: int = 0) -> nn.Module:
        """In evaluation mode, with norms whose weights and statistics are not the fresh ones."""
        torch.manual_seed(seed)
        module = self.factory()
        for layer in module.modules():
            if getattr(layer, "running_mean", None) is not None:
                nn.init.uniform_(layer.running_mean, -0.3, 0.3)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
            if "Norm" in type(layer).__name__ and getattr(layer, "weight", None) is not None:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                if layer.bias is not None:
                    nn.init.uniform_(layer.bias, -0.3, 0.3)
        return module.eval()


def conv_bn(before, after, kernel=3, stride=1, *, groups=1, act=nn.ReLU):
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        act(),
    )


class Classifier(nn.Module):
    """A body, average pooling over the image, a linear layer."""

    def __init__(self, body, width):
        super().__init__()
        self.body, self.head = body, nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.head(self.body(x).mean([2, 3]))


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before, after, stride, skip):
        super().__init__()
        self.one = conv_bn(before, after, stride=stride)
        self.two = nn.Sequential(
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        )
        self.skip = skip

    def forward(self, x):
        return F.relu(self.two(self.one(x)) + self.skip(x))


class Widen(nn.Module):
    """Option A with the width of its padding in an attribute."""

    def __init__(self, before, after):
        super().__init__()
        self.left = (after - before) // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.left, self.left))


class Lambda(nn.Module):
    """Option A as in the best known CIFAR ResNet: a lambda that knows a number."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def _lambda(before, after):
    del before
    width = after // 4
    return Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, width, width), "constant", 0))


def _residual(skip):
    return Classifier(
        nn.Sequential(
            conv_bn(3, 8),
            Residual(8, 8, 1, nn.Identity()),
            Residual(8, 16, 2, skip(8, 16)),
            Residual(16, 16, 1, nn.Identity()),
            Residual(16, 32, 2, skip(16, 32)),
        ),
        32,
    )


def plain():
    return zoo.small_cnn((8, 16, 16), classes=CLASSES, channels=3)


def option_a():
    return zoo.cifar_resnet(8, "A", (8, 16, 32), classes=CLASSES)


def option_a_attribute():
    return _residual(Widen)


def option_a_lambda():
    return _residual(_lambda)


def option_b():
    return _residual(
        lambda b, a: nn.Sequential(nn.Conv2d(b, a, 1, stride=2, bias=False), nn.BatchNorm2d(a))
    )


def depthwise_separable():
    return Classifier(
        nn.Sequential(conv_bn(3, 16), conv_bn(16, 16, groups=16), conv_bn(16, 32, 1)), 32
    )


class SqueezeExcite(nn.Module):
    """Channels gated by what they hold on average."""

    def __init__(self, width, squeezed, gate=nn.Sigmoid):
        super().__init__()
        self.down, self.up = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)
        self.gate = gate()

    def forward(self, x):
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.up(F.relu(self.down(scale))))


def squeeze_excite():
    return Classifier(nn.Sequential(conv_bn(3, 16), SqueezeExcite(16, 4), conv_bn(16, 16)), 16)


class LinearExcite(nn.Module):
    """The same with linear layers, a view and expand_as, as in the first such networks."""

    def __init__(self, width):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, width), nn.Sigmoid())

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.fc(F.adaptive_avg_pool2d(x, 1).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


def squeeze_excite_linear():
    return Classifier(nn.Sequential(conv_bn(3, 16), LinearExcite(16), conv_bn(16, 16)), 16)


class Dense(nn.Module):
    """Each layer sees all before it."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.layers = nn.ModuleList(conv_bn(8 + 8 * i, 8) for i in range(3))
        self.transition = conv_bn(32, 16, 1)

    def forward(self, x):
        seen = [self.stem(x)]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, 1)))
        return F.avg_pool2d(self.transition(torch.cat(seen, 1)), 2)


def dense():
    return Classifier(Dense(), 16)


def shuffle(x, groups):
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class ShuffleV2(nn.Module):
    """One half passes, the other is computed, then they are shuffled."""

    def __init__(self, width):
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            conv_bn(half, half, 1),
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            conv_bn(half, half, 1),
        )

    def forward(self, x):
        one, other = x.chunk(2, dim=1)
        return shuffle(torch.cat([one, self.branch(other)], 1), 2)


def shuffle_v2():
    return Classifier(
        nn.Sequential(conv_bn(3, 16), ShuffleV2(16), ShuffleV2(16), conv_bn(16, 32, 1)), 32
    )


class ShuffleV1(nn.Module):
    """Grouped convolutions whose groups mix by a shuffle between."""

    def __init__(self, width, groups):
        super().__init__()
        self.groups = groups
        self.one = conv_bn(width, width, 1, groups=groups)
        self.depthwise = conv_bn(width, width, groups=width, act=nn.Identity)
        self.two = conv_bn(width, width, 1, groups=groups, act=nn.Identity)

    def forward(self, x):
        return F.relu(x + self.two(self.depthwise(shuffle(self.one(x), self.groups))))


def shuffle_v1():
    return Classifier(nn.Sequential(conv_bn(3, 32), ShuffleV1(32, 4), conv_bn(32, 16)), 16)


def channel_shuffle_layer():
    return Classifier(
        nn.Sequential(conv_bn(3, 16), nn.ChannelShuffle(4), conv_bn(16, 16, groups=4)), 16
    )


class C2f(nn.Module):
    """The block of YOLOv8: halves, a chain of residual blocks, all of them concatenated."""

    def __init__(self, before, after, blocks=2):
        super().__init__()
        half = after // 2
        self.cv1, self.cv2 = conv_bn(before, after, 1), conv_bn((2 + blocks) * half, after, 1)
        self.m = nn.ModuleList(
            nn.Sequential(conv_bn(half, half), conv_bn(half, half)) for _ in range(blocks)
        )

    def forward(self, x):
        y = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            y.append(y[-1] + block(y[-1]))
        return self.cv2(torch.cat(y, 1))


def chunk_c2f():
    return Classifier(nn.Sequential(conv_bn(3, 16), C2f(16, 16)), 16)


class Split(nn.Module):
    """Two unequal parts whose sizes are attributes."""

    def __init__(self, width, kept):
        super().__init__()
        self.kept, self.rest = kept, width - kept
        self.conv, self.join = conv_bn(self.rest, 8), conv_bn(kept + 8, width, 1)

    def forward(self, x):
        one, other = torch.split(x, [self.kept, self.rest], dim=1)
        return self.join(torch.cat([one, self.conv(other)], 1))


def split_attributes():
    return Classifier(nn.Sequential(conv_bn(3, 16), Split(16, 4), conv_bn(16, 16)), 16)


class Sliced(nn.Module):
    """The partial convolution of FasterNet: the first quarter is computed, the rest passes."""

    def __init__(self, width):
        super().__init__()
        self.part = width // 4
        self.conv = nn.Conv2d(self.part, self.part, 3, padding=1, bias=False)
        self.mlp = nn.Sequential(conv_bn(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1))

    def forward(self, x):
        one, other = x[:, : self.part], x[:, self.part :]
        return x + self.mlp(torch.cat([self.conv(one), other], 1))


def partial_slice():
    return Classifier(nn.Sequential(conv_bn(3, 16), Sliced(16), conv_bn(16, 16)), 16)


def group_norm():
    def layer(before, after):
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()
        )

    return Classifier(nn.Sequential(layer(3, 16), layer(16, 16), layer(16, 32)), 32)


def instance_norm_prelu():
    return Classifier(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.InstanceNorm2d(16, affine=True),
            nn.PReLU(16),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.InstanceNorm2d(16),
            nn.PReLU(),
            nn.Conv2d(16, 16, 3),
            nn.ReLU(),
        ),
        16,
    )


class ResNeXt(nn.Module):
    """A bottleneck around a grouped convolution."""

    def __init__(self, width, inner, groups):
        super().__init__()
        self.reduce, self.grouped = conv_bn(width, inner, 1), conv_bn(inner, inner, groups=groups)
        self.grow = conv_bn(inner, width, 1, act=nn.Identity)

    def forward(self, x):
        return F.relu(x + self.grow(self.grouped(self.reduce(x))))


def grouped_resnext():
    return Classifier(nn.Sequential(conv_bn(3, 16), ResNeXt(16, 16, 4), ResNeXt(16, 16, 4)), 16)


class Sequence(nn.Module):
    """Tokens of 8 features through layers, averaged."""

    def __init__(self, width, *layers):
        super().__init__()
        self.embed, self.layers = nn.Linear(8, width), nn.Sequential(*layers)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.head(self.layers(self.embed(x)).mean(1))


def transformer_encoder():
    layers = (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True) for _ in range(2))
    return Sequence(16, *layers)


class FusedAttention(nn.Module):
    """Queries, keys and values of one linear layer; the sizes of its heads are attributes."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        b, n, _ = x.shape
        y = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, self.head_width)
        q, k, v = y.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


def fused_attention():
    return Sequence(16, FusedAttention(16, 4), Mlp(16, 32))


class SeparateAttention(nn.Module):
    """Three linear layers, products and softmax written out, the number of heads an attribute."""

    def __init__(self, width, heads):
        super().__init__()
        self.num_heads, self.inner = heads, width
        self.scale = (width // heads) ** -0.5
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = (
            layer(x).view(b, n, self.num_heads, -1).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        y = ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1) @ v
        return x + self.out(y.transpose(1, 2).reshape(b, n, self.inner))


def separate_attention():
    return Sequence(16, SeparateAttention(16, 4), Mlp(16, 32))


class ClassicAttention(nn.Module):
    """As in the first vision transformers: all sizes from the width of what comes in."""

    def __init__(self, width, heads):
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, n, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1) @ v
        return x + self.proj(y.transpose(1, 2).reshape(b, n, c))


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions."""

    def __init__(self, width=16):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 17, width))
        self.blocks = nn.Sequential(ClassicAttention(width, 4), Mlp(width, 32))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def vision_transformer():
    return VisionTransformer()


class Mixer(nn.Module):
    """Linear layers over tokens, then over features."""

    def __init__(self, tokens, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 16), nn.GELU(), nn.Linear(16, tokens))
        self.features = Mlp(width, 32)

    def forward(self, x):
        y = self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return self.features(x + y)


def mlp_mixer():
    return Sequence(16, Mixer(6, 16))


class Conv1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(8, 16, 3, padding=1),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.head(self.body(x))


def conv_1d():
    return Conv1d()


def conv_3d():
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(8, 16, 3),
        nn.LeakyReLU(0.1),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


class UNet(nn.Module):
    """Down and up again, with what was there before concatenated."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = conv_bn(3, 8), conv_bn(8, 16), conv_bn(16, 32)
        self.up2, self.up1 = conv_bn(32 + 16, 16), conv_bn(16 + 8, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.bottom(F.max_pool2d(two, 2))
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2), two], 1))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out(self.up1(torch.cat([x, one], 1)))


def u_net():
    return UNet()


def pixel_shuffle():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.PixelShuffle(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )


class EmbeddingMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(32, 16)
        self.mlp = nn.Sequential(nn.Linear(6 * 16, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def forward(self, x):
        return self.mlp(self.embedding(x.long()).flatten(1))


def embedding_mlp():
    return EmbeddingMlp()


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm = nn.Linear(8, 16), nn.LSTM(16, 16, num_layers=2, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        y, _ = self.lstm(self.embed(x))
        return self.head(y[:, -1])


def lstm():
    return Lstm()


class Gru(nn.Module):
    """Both directions, with a first state of its own making."""

    def __init__(self):
        super().__init__()
        self.hidden = 12
        self.gru = nn.GRU(8, self.hidden, bidirectional=True, batch_first=True)
        self.head = nn.Sequential(nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, CLASSES))

    def forward(self, x):
        first = torch.zeros(2, x.shape[0], self.hidden)
        return self.head(self.gru(x, first)[0].mean(1))


def gru_bidirectional():
    return Gru()


class Scaled(nn.Module):
    """A learned number for each channel."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.scale = nn.Parameter(torch.randn(16, 1, 1))
        self.shift = nn.Parameter(torch.randn(16))

    def forward(self, x):
        x = self.conv(x) * self.scale + self.shift.view(1, -1, 1, 1)
        return F.relu(self.last(F.relu(x)))


def learnable_scale():
    return Classifier(Scaled(), 16)


class Inverted(nn.Module):
    """The block of MobileNetV2, with squeeze and excite that of V3 and EfficientNet."""

    def __init__(self, before, after, act=nn.ReLU6, excite=None, stride=1):
        super().__init__()
        inner = 3 * before
        self.layers = nn.Sequential(
            conv_bn(before, inner, 1, act=act),
            conv_bn(inner, inner, 3, stride, groups=inner, act=act),
            SqueezeExcite(inner, 8, excite) if excite else nn.Identity(),
            conv_bn(inner, after, 1, act=nn.Identity),
        )
        self.around = stride == 1 and before == after

    def forward(self, x):
        return x + self.layers(x) if self.around else self.layers(x)


def _inverted(act, excite=None):
    return Classifier(
        nn.Sequential(
            conv_bn(3, 8, act=act),
            Inverted(8, 8, act, excite),
            Inverted(8, 16, act, excite, stride=2),
            Inverted(16, 16, act, excite),
        ),
        16,
    )


def mobilenet_v2():
    return _inverted(nn.ReLU6)


def mobilenet_v3():
    return _inverted(nn.Hardswish, nn.Hardsigmoid)


def efficientnet():
    return _inverted(nn.SiLU, nn.Sigmoid)


class ConvNeXt(nn.Module):
    """Depthwise 7x7, a norm and a perceptron over channels last, layer scale."""

    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """Layer norm over channels first, by hand."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def convnext():
    return Classifier(
        nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4),
            ChannelNorm(8),
            ConvNeXt(8),
            nn.Conv2d(8, 16, 2, stride=2),
            ConvNeXt(16),
        ),
        16,
    )


class Decoder(nn.Module):
    """From features to an image."""

    def __init__(self):
        super().__init__()
        self.width = 16
        self.linear = nn.Linear(8, self.width * 4 * 4)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1, groups=4),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 3, 3, padding=1),
        )

    def forward(self, x):
        return self.layers(self.linear(x).view(-1, self.width, 4, 4))


def transposed_decoder():
    return Decoder()


def flatten_dense():
    return nn.Sequential(
        conv_bn(3, 8),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 32),
        nn.ReLU(),
        nn.Linear(32, CLASSES),
    )


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, before):
        super().__init__()
        self.one = conv_bn(before, 8, 1)
        self.three = nn.Sequential(conv_bn(before, 4, 1), conv_bn(4, 8, 3))
        self.five = nn.Sequential(conv_bn(before, 4, 1), conv_bn(4, 8, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(before, 8, 1))

    def forward(self, x):
        return torch.cat([b(x) for b in (self.one, self.three, self.five, self.pool)], dim=1)


def inception():
    return Classifier(nn.Sequential(conv_bn(3, 8), Inception(8), Inception(32)), 32)


class Gated(nn.Module):
    """Gated linear units, with both halves in one layer."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 32), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.down(F.glu(self.up(x), dim=-1))


def gated_linear():
    return Sequence(8, Gated(), Gated())


class Siamese(nn.Module):
    """One body for two images, compared feature by feature."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 8), conv_bn(8, 16))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        one, other = (self.body(half).mean([2, 3]) for half in x.chunk(2, dim=2))
        return self.head(torch.abs(one - other))


def siamese():
    return Siamese()


STRUCTURES = {
    "plain": Structure(plain),
    "residual option A (layer)": Structure(option_a),
    "residual option A (F.pad, attribute)": Structure(option_a_attribute),
    "residual option A (F.pad, lambda)": Structure(option_a_lambda),
    "residual option B": Structure(option_b),
    "depthwise separable": Structure(depthwise_separable),
    "squeeze and excite": Structure(squeeze_excite),
    "squeeze and excite (linear)": Structure(squeeze_excite_linear),
    "dense": Structure(dense),
    "channel shuffle (ShuffleNetV2)": Structure(shuffle_v2),
    "channel shuffle (ShuffleNetV1)": Structure(shuffle_v1),
    "channel shuffle (layer)": Structure(channel_shuffle_layer),
    "chunk (C2f)": Structure(chunk_c2f),
    "split by attributes": Structure(split_attributes),
    "slice (partial convolution)": Structure(partial_slice),
    "group norm": Structure(group_norm),
    "instance norm, PReLU": Structure(instance_norm_prelu),
    "grouped convolution (ResNeXt)": Structure(grouped_resnext),
    "transformer encoder": Structure(transformer_encoder, (6, 8)),
    "fused QKV attention": Structure(fused_attention, (6, 8)),
    "separate QKV attention": Structure(separate_attention, (6, 8)),
    "vision transformer": Structure(vision_transformer),
    "MLP mixer": Structure(mlp_mixer, (6, 8)),
    "Conv1d": Structure(conv_1d, (8, 16)),
    "Conv3d": Structure(conv_3d, (1, 8, 8, 8)),
    "U-Net": Structure(u_net),
    "pixel shuffle": Structure(pixel_shuffle),
    "embedding and MLP": Structure(embedding_mlp, (6,), vocabulary=32),
    "LSTM": Structure(lstm, (6, 8)),
    "GRU, both directions": Structure(gru_bidirectional, (6, 8)),
    "learnable scale": Structure(learnable_scale),
    "MobileNetV2": Structure(mobilenet_v2),
    "MobileNetV3": Structure(mobilenet_v3),
    "EfficientNet": Structure(efficientnet),
    "ConvNeXt": Structure(convnext),
    "transposed convolution decoder": Structure(transposed_decoder, (8,)),
    "flatten and dense": Structure(flatten_dense),
    "inception": Structure(inception),
    "gated linear units": Structure(gated_linear, (6, 8)),
    "siamese": Structure(siamese),
}
