"""What models are held to: numpy forward passes, [B, …] → [B, classes]; counts by hand."""

# B batch, H W image height, width

import itertools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

VGG = {  # convolutions a group: Simonyan & Zisserman, Table 1, columns A, B, D, E
    "vgg_11": (1, 1, 2, 2, 2),
    "vgg_13": (2, 2, 2, 2, 2),
    "vgg_16": (2, 2, 3, 3, 3),
    "vgg_19": (2, 2, 4, 4, 4),
}
RESNET = {"resnet_20": 3, "resnet_32": 5, "resnet_56": 9}  # n of 6n + 2
CONV = {"conv_2": 1, "conv_4": 2, "conv_6": 3}  # modules


def closed_form(name, hidden, classes=10):
    """Parameters of a model with these hidden widths, by hand."""
    if name in CONV:
        *channels, first, second = hidden
        below = [3, *channels]
        pairs = zip(below, channels, strict=False)
        layers = [pair for i, o in pairs for pair in ((9 * i, o), (9 * o, o))]
        inputs = (32 >> CONV[name]) ** 2 * channels[-1]
        layers += [(inputs, first), (first, second), (second, classes)]
    elif name in VGG or name in RESNET:
        repeats = VGG.get(name) or (1, *[2 * RESNET[name]] * 3)
        widths = hidden if name in VGG else (hidden[0], *hidden)
        total, below = (hidden[-1] + 1) * classes, 3
        for width, convolutions in zip(widths, repeats, strict=True):
            for _ in range(convolutions):
                total, below = total + 9 * below * width + 2 * width, width
        return total
    elif name == "student_net":
        blocks = itertools.pairwise(hidden)
        layers = [(27, hidden[0]), *blocks, (hidden[-1], classes)]
        depthwise = sum(9 * channels + channels for channels in hidden[:-1])
        normed = 2 * (hidden[0] + sum(hidden[:-1]))
        return depthwise + normed + sum((inputs + 1) * outputs for inputs, outputs in layers)
    elif name == "lenet_300_100":
        layers = list(zip((784, *hidden), (*hidden, classes), strict=True))
    elif name == "residual_mlp":
        layers = list(zip((40, *hidden), (*hidden, classes), strict=True))
    else:  # LeNet-5: 28 → 24 → 12 → 8 → 4
        first, second, dense = hidden
        layers = [(25, first), (25 * first, second), (16 * second, dense), (dense, classes)]
    return sum((inputs + 1) * outputs for inputs, outputs in layers)


def dense(leaves, x):
    return x @ leaves["kernel"] + leaves["bias"]


def relu(x):
    return np.maximum(x, 0)


def convolve(leaves, x, padding=0, strides=1):
    """[B, H, W, in] with a kernel [h, w, in, out], `padding` zeros on every side."""
    kernel = leaves["kernel"]
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    windows = sliding_window_view(x, kernel.shape[:2], (1, 2))[:, ::strides, ::strides]
    return np.einsum("bxyihw,hwio->bxyo", windows, kernel) + leaves.get("bias", 0)


def depthwise(leaves, x):
    """[B, H, W, C] with a kernel [3, 3, 1, C], a window a channel, a zero around."""
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = sliding_window_view(x, (3, 3), (1, 2))
    return np.einsum("bxychw,hwc->bxyc", windows, leaves["kernel"][:, :, 0]) + leaves["bias"]


def pool(x):
    """The largest of each 2×2; an odd last row or column is left out."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


class Evaluated:
    """BatchNorm with running statistics: (x − mean) / √(var + 1e-5) × scale + bias."""

    def __init__(self, params, stats):
        self.params, self.stats = params, stats

    def __call__(self, place, x):
        params, stats = at(self.params, place), at(self.stats, place)
        x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
        return x * params["scale"] + params["bias"]


class Trained(Evaluated):
    """BatchNorm with the batch's own statistics. `updated`: 0.9 × running + 0.1 × the batch's."""

    def __init__(self, params, stats):
        super().__init__(params, stats)
        self.updated = {}

    def __call__(self, place, x):
        own = {"mean": x.mean((0, 1, 2)), "var": x.var((0, 1, 2))}
        old = at(self.stats, place)
        self.updated[place] = {key: 0.9 * old[key] + 0.1 * own[key] for key in own}
        params = at(self.params, place)
        return (x - own["mean"]) / np.sqrt(own["var"] + 1e-5) * params["scale"] + params["bias"]


def at(tree, place):
    for part in place.split("/"):
        tree = tree[part]
    return tree


def lenet_300_100(name, p, x, norm):
    x = relu(dense(p["fc1"], x.reshape(len(x), -1)))
    return dense(p["output"], relu(dense(p["fc2"], x)))


def residual_mlp(name, p, x, norm):
    x = relu(dense(p["fc1"], x))
    return dense(p["output"], x + relu(dense(p["fc2"], x)))


def lenet_5(name, p, x, norm):
    for layer in ("conv1", "conv2"):
        x = pool(relu(convolve(p[layer], x)))
    return dense(p["output"], relu(dense(p["fc1"], x.reshape(len(x), -1))))


def conv_n(name, p, x, norm):
    for layer in range(1, 2 * CONV[name] + 1):
        x = relu(convolve(p[f"conv{layer}"], x, padding=1))
        x = x if layer % 2 else pool(x)
    x = relu(dense(p["fc1"], x.reshape(len(x), -1)))
    return dense(p["output"], relu(dense(p["fc2"], x)))


def vgg(name, p, x, norm):
    for group in range(1, 6):
        x = x if group == 1 else pool(x)
        for layer in range(1, 1 + sum(key.startswith(f"conv{group}_") for key in p)):
            x = convolve(p[f"conv{group}_{layer}"], x, padding=1)
            x = relu(norm(f"bn{group}_{layer}", x))
    return dense(p["output"], x.mean((1, 2)))


def resnet(name, p, x, norm):
    x = relu(norm("bn1", convolve(p["conv1"], x, padding=1)))
    for stage in (1, 2, 3):
        for block in range(1, 1 + sum(key.startswith("block1_") for key in p)):
            place = f"block{stage}_{block}"
            strides = 2 if stage > 1 and block == 1 else 1
            y = convolve(p[place]["conv1"], x, padding=1, strides=strides)
            y = relu(norm(f"{place}/bn1", y))
            y = norm(f"{place}/bn2", convolve(p[place]["conv2"], y, padding=1))
            kept = np.zeros(y.shape)  # option A: identity on every other pixel, zeros beyond it
            kept[..., : x.shape[-1]] = x[:, ::strides, ::strides]
            x = relu(y + kept)
    return dense(p["output"], x.mean((1, 2)))


def student_net(name, p, x, norm):
    x = pool(np.clip(norm("bn1", convolve(p["conv1"], x, padding=1)), 0, 6))
    for block in range(2, 9):
        x = np.clip(norm(f"bn{block}", depthwise(p[f"depthwise{block}"], x)), 0, 6)
        x = convolve(p[f"pointwise{block}"], x)
        x = pool(x) if block <= 4 else x
    return dense(p["output"], x.mean((1, 2)))


FORWARD = {
    "lenet_300_100": lenet_300_100,
    "lenet_5": lenet_5,
    "residual_mlp": residual_mlp,
    "student_net": student_net,
    **dict.fromkeys(CONV, conv_n),
    **dict.fromkeys(VGG, vgg),
    **dict.fromkeys(RESNET, resnet),
}
