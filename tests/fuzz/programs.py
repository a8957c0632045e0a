"""Random small graphs of all operations, and random small functions of arrays, by hypothesis."""

import math

import numpy as np
from hypothesis import strategies as st

from deploy.graphs.graph import FREE
from tests.deploy.onnx_graphs import Hand

RELU = (0.0, math.inf)
SHAPES = (
    (1, 5, 6, 3),
    (2, 4, 4, 2),
    (1, 6, 5, 8),
    (2, 1, 7, 4),
    (1, 7),
    (2, 12),
    (2, 5, 4),
    (1, 3, 8),
)
BOUNDS = (FREE, FREE, RELU, (0.0, 6.0), (-0.5, 0.75), (-math.inf, 0.5))


class Drawn:
    """A graph in the making: `name` chooses among what is there."""

    def __init__(self, draw, shape):
        self.pick = lambda *options: draw(st.sampled_from(options))
        self.hand = Hand(seed=draw(st.integers(0, 999)), input=shape)
        self.found = ["input"]

    def shape(self, name):
        return self.hand.values[name].shape

    def normal(self, *shape):
        return self.hand.constant(self.hand.random.normal(size=shape).astype(np.float32))

    def number(self, value):
        return self.hand.constant(np.float32(value))

    def positive(self, x):
        x = self.hand.node("abs", x)
        return self.hand.node("add", x, self.number(0.5), bounds=FREE)

    def other(self, x):
        """Something of a shape that broadcasts against that of x."""
        shape = self.shape(x)
        match self.pick("number", "channels", "same", "value", "mean", "whole"):
            case "number":
                return self.number(self.pick(0.3, -1.5, 0.0, 2.0))
            case "channels":
                return self.normal(shape[-1])
            case "same":
                return x
            case "mean":
                axes = self.pick(*[(a,) for a in range(1, len(shape))])
                return self.hand.node("mean", x, axes=axes, keepdims=True)
            case "whole":
                return self.normal(1, *shape[1:])
        alike = [name for name in self.found if self.shape(name) == shape]
        return self.pick(*alike)

    def pair(self, x):
        both = [x, self.other(x)]
        return both if self.pick(True, False) else both[::-1]


def _window(d, x):
    _, height, width, _ = d.shape(x)
    window = d.pick(*[(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a <= height and b <= width])
    padding = tuple((d.pick(*range(min(2, n))), d.pick(*range(min(2, n)))) for n in window)
    return window, {"strides": (d.pick(1, 2), d.pick(1, 2, 3)), "padding": padding}


def conv(d, x):
    window, settings = _window(d, x)
    channels = d.shape(x)[3]
    groups = d.pick(1, 1, channels, 2 if channels % 2 == 0 else 1)
    kernel = d.normal(*window, channels // groups, groups * d.pick(1, 2, 3))
    bias, bounds = d.normal(d.shape(kernel)[3]), d.pick(*BOUNDS)
    fits = [
        all((w - 1) * n < s for w, s in zip(window, d.shape(x)[1:3], strict=True)) for n in (1, 2)
    ]
    dilation = d.pick(1, 2) if fits[1] else 1
    return d.hand.node(
        "conv", x, kernel, bias,
        dilation=(dilation, dilation), groups=groups, bounds=bounds, **settings,
    )  # fmt: skip


def dense(d, x):
    kernel = d.normal(d.shape(x)[-1], d.pick(1, 3, 4, 8))
    return d.hand.node("dense", x, kernel, d.normal(d.shape(kernel)[1]), bounds=d.pick(*BOUNDS))


def pool(operation):
    def add(d, x):
        window, settings = _window(d, x)
        return d.hand.node(operation, x, window=window, **settings)

    return add


def matmul(d, x):
    rank = len(d.shape(x))
    order = (*range(rank - 2), rank - 1, rank - 2)
    return d.hand.node("matmul", x, d.hand.node("transpose", x, permutation=order))


def two(operation):
    def add(d, x):
        attributes = {"bounds": d.pick(*BOUNDS)} if operation == "add" else {}
        left, right = d.pair(x)
        if operation in ("div", "pow"):
            right = d.positive(right) if right not in d.hand.constants else d.number(1.7)
            left = d.positive(left) if left not in d.hand.constants else d.number(1.3)
        return d.hand.node(operation, left, right, **attributes)

    return add


def power(d, x):
    return d.hand.node("pow", d.positive(x), d.number(d.pick(2, 0.5, -1, 3, -0.5)))


def one(operation):
    def add(d, x):
        if operation in ("log", "sqrt", "rsqrt"):
            x = d.positive(x)
        if operation == "exp":
            x = d.hand.node("clip", x, bounds=(-3.0, 3.0))
        return d.hand.node(operation, x)

    return add


def clip(d, x):
    return d.hand.node("clip", x, bounds=d.pick(*BOUNDS[2:]))


def compared(operation):
    def add(d, x):
        if operation == "equal":
            x = d.hand.node("clip", x, bounds=RELU)
        threshold = d.number(0 if operation == "equal" else 0.123)
        condition = d.hand.node(operation, x, threshold)
        if d.pick(True, False):
            return d.hand.node("cast", condition, dtype="float32")
        return d.hand.node("where", condition, x, d.other(x))

    return add


def reduction(operation):
    def add(d, x):
        rank = len(d.shape(x))
        places = [
            tuple(a for a in range(1, rank) if bits >> a & 1) for bits in range(2, 2**rank, 2)
        ]
        axes, keeps = d.pick(*places), d.pick(True, False)
        keeps = keeps or len(axes) == rank - 1
        return d.hand.node(operation, x, axes=axes, keepdims=keeps)

    return add


def softmax(d, x):
    return d.hand.node("softmax", x, axis=d.pick(-1, *range(1, len(d.shape(x)))))


def reshape(d, x):
    batch, *rest = d.shape(x)
    size = math.prod(rest)
    shapes = [(size,), (1, size), (size, 1), (1, 1, size), (size, 1, 1)]
    shapes += [(a, size // a) for a in (2, 3, 4) if size % a == 0]
    shapes += [(2, a, size // a // 2) for a in (2, 3) if size % (2 * a) == 0]
    return d.hand.node("reshape", x, shape=(batch, *d.pick(*shapes)))


def broadcast(d, x):
    shape = d.shape(x)
    axis = d.pick(*range(1, len(shape)))
    x = d.hand.node("mean", x, axes=(axis,), keepdims=True)
    return d.hand.node("broadcast", x, shape=shape)


def transpose(d, x):
    rank = len(d.shape(x))
    places = list(range(1, rank))
    order = []
    while places:
        order.append(places.pop(d.pick(*range(len(places)))))
    return d.hand.node("transpose", x, permutation=(0, *order))


def concat(d, x):
    axis, shape = d.pick(*range(1, len(d.shape(x)))), d.shape(x)

    def fits(name):
        given = d.shape(name)
        return len(given) == len(shape) and all(
            a == b for k, (a, b) in enumerate(zip(given, shape, strict=True)) if k != axis
        )

    other = d.pick(*[name for name in d.found if fits(name)])
    if d.pick(True, True, False):
        return d.hand.node("concat", x, other, axis=axis)
    return d.hand.node("concat", d.normal(*shape), x, axis=axis)


def pad(d, x):
    pads = ((0, 0), *((d.pick(0, 0, 1, 2), d.pick(0, 1)) for _ in d.shape(x)[1:]))
    return d.hand.node("pad", x, pads=pads, value=d.pick(0.0, 0.0, 1.5))


def cut(d, x):
    shape = d.shape(x)
    begin = (0, *(d.pick(*range(min(2, size))) for size in shape[1:]))
    end = (
        shape[0],
        *(
            d.pick(*range(max(a + 1, s - 1), s + 1))
            for a, s in zip(begin[1:], shape[1:], strict=True)
        ),
    )
    strides = (1, *(d.pick(1, 1, 2, 3) for _ in shape[1:]))
    return d.hand.node("slice", x, begin=begin, end=end, strides=strides)


def shuffle(d, x):
    channels = d.shape(x)[-1]
    groups = d.pick(*[n for n in (1, 2, 3, 4) if channels % n == 0])
    return d.hand.node("channel_shuffle", x, groups=groups, shape=d.shape(x))


def gather(d, x):
    above = d.hand.node("cast", d.hand.node("greater", x, d.number(0.123)), dtype="int32")
    return d.hand.node("gather", d.normal(2, d.pick(1, 3)), above)


IMAGES = {
    "conv": conv,
    "max_pool": pool("max_pool"),
    "average_pool": pool("average_pool"),
    "channel_shuffle": shuffle,
}
ANY = {
    "dense": dense,
    **{name: two(name) for name in ("add", "sub", "mul", "max", "min")},
    "clip": clip,
    **{name: one(name) for name in ("sigmoid", "tanh", "exp", "neg", "abs")},
    **{name: reduction(name) for name in ("mean", "sum", "reduce_max")},
    "softmax": softmax,
    "reshape": reshape,
    "broadcast": broadcast,
    "transpose": transpose,
    "concat": concat,
    "pad": pad,
    "slice": cut,
}
FLOATS = {
    "div": two("div"),
    "pow": two("pow"),
    "power": power,
    **{name: one(name) for name in ("log", "sqrt", "rsqrt", "erf", "sign")},
    **{name: compared(name) for name in ("equal", "less", "greater")},
    "gather": gather,
}


@st.composite
def graphs(draw, most=6, operations=(*IMAGES, *ANY, *FLOATS, "matmul")):
    """A graph of `most` operations or fewer, not counting those that keep arguments in range."""
    d = Drawn(draw, draw(st.sampled_from(SHAPES)))
    for _ in range(draw(st.integers(1, most))):
        rank = lambda name: len(d.shape(name))  # noqa: E731
        x = d.pick(*d.found, d.found[-1], d.found[-1])
        fits = [n for n in operations if n not in IMAGES or rank(x) == 4]
        fits = [n for n in fits if n != "matmul" or rank(x) in (3, 4)]
        fits = [n for n in fits if n not in ("gather",) or rank(x) < 4]
        name = d.pick(*fits)
        made = {**IMAGES, **ANY, **FLOATS, "matmul": matmul}[name](d, x)
        if math.prod(d.shape(made)) == 0 or math.prod(d.shape(made)) > 4000:
            break
        if d.hand.values[made].dtype == "float32":
            d.found.append(made)
    results = [d.found[-1]]
    if len(d.found) > 3 and d.pick(True, False, False):
        results.append(d.pick(*d.found[1:-1]))
    return d.hand.graph(*results)


def _weights(*shape):
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


# Functions of numpy or of jax.numpy (xp) and an array [B, I, J]; each keeps the rank.
FUNCTIONS = {
    "sum of squares": lambda xp, x: x * x + x,
    "negative exponential": lambda xp, x: xp.exp(-xp.abs(x)),
    "hyperbolic": lambda xp, x: xp.tanh(x) * 0.5,
    "root": lambda xp, x: xp.sqrt(xp.abs(x) + 1) - 1 / (1 + xp.abs(x)),
    "logarithm": lambda xp, x: xp.log1p(xp.abs(x)),
    "logistic": lambda xp, x: x / (1 + xp.exp(-xp.clip(x, -4, 4))),
    "bounds": lambda xp, x: xp.minimum(xp.maximum(x, -0.5), 1.25),
    "clipped": lambda xp, x: xp.clip(x, -0.3, 6),
    "ReLU": lambda xp, x: xp.maximum(x, 0),
    "leaky": lambda xp, x: xp.where(x > 0.01, x, 0.1 * x),
    "sign": lambda xp, x: xp.sign(x - 0.0123) * x,
    "powers": lambda xp, x: x**3 + (xp.abs(x) + 1) ** -1.5,
    "whole": lambda xp, x: x + (x > 0.0123).astype(xp.float32),
    "centred": lambda xp, x: x - x.mean(-1, keepdims=True),
    "normal": lambda xp, x: (
        (x - x.mean((1, 2), keepdims=True)) / xp.sqrt(x.var((1, 2), keepdims=True) + 0.1)
    ),
    "from the largest": lambda xp, x: x - x.max(1, keepdims=True),
    "softmax": lambda xp, x: (
        xp.exp(x - x.max(-1, keepdims=True))
        / xp.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
    "transposed": lambda xp, x: xp.swapaxes(x, 1, 2),
    "rows": lambda xp, x: x[:, 1:] if x.shape[1] > 1 else x,
    "every other": lambda xp, x: x[..., ::2],
    "reversed": lambda xp, x: x[:, ::-1],
    "beside": lambda xp, x: xp.concatenate([x, 2 * x[:, :, :1]], -1),
    "below": lambda xp, x: xp.concatenate([x[:, -1:], x], 1),
    "stacked": lambda xp, x: xp.stack([x, -x], 2).reshape(len(x), -1, x.shape[2]),
    "padded": lambda xp, x: xp.pad(x, ((0, 0), (1, 0), (0, 2))),
    "rolled": lambda xp, x: xp.roll(x, 1, 1),
    "tiled": lambda xp, x: xp.tile(x, (1, 2, 1)),
    "repeated": lambda xp, x: xp.repeat(x, 2, axis=2),
    "flattened": lambda xp, x: x.reshape(len(x), 1, -1),
    "product": lambda xp, x: x @ _weights(x.shape[2], 3) + _weights(1, 1, 3),
    "mixed": lambda xp, x: xp.einsum("bij,ki->bkj", x, _weights(2, x.shape[1])),
    "attention": lambda xp, x: xp.einsum("bij,bkj->bik", x, x),
    "attended": lambda xp, x: xp.einsum("bik,bij->bkj", x, xp.tanh(x)),
    "broadcast": lambda xp, x: xp.broadcast_to(x[:, :1], x.shape) * x,
    "running sum": lambda xp, x: xp.cumsum(x, 1),
    "rounded": lambda xp, x: xp.round(3 * x),
    "sorted": lambda xp, x: xp.sort(x, -1),
}


@st.composite
def functions(draw, most=4):
    """A function (xp, x) that applies some of `FUNCTIONS`, and their names."""
    names = draw(st.lists(st.sampled_from(sorted(FUNCTIONS)), min_size=1, max_size=most))

    def run(xp, x):
        for name in names:
            x = FUNCTIONS[name](xp, x)
        return x

    return names, run
