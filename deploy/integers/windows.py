"""Convolutions and pooling on codes."""

import numpy as np

from deploy.integers import fixed
from deploy.integers.call import Call, Operand


def conv(call: Call) -> np.ndarray:
    """A convolution: products in int32, tap by tap of the kernel."""
    x, options = call.given[0], call.node.attributes
    codes, scales, bias = fixed.parameters(call.graph, call.node)
    padded = np.pad(x.centred.astype(np.int32), ((0, 0), *options["padding"], (0, 0)))
    height, width = call.shape[1:3]
    groups, kernel = options["groups"], codes.astype(np.int32)
    total = np.zeros((*call.shape[:3], groups, call.shape[3] // groups), np.int32)
    for i, j in np.ndindex(*kernel.shape[:2]):
        top, left = i * options["dilation"][0], j * options["dilation"][1]
        down, right = options["strides"]
        rows = slice(top, top + down * (height - 1) + 1, down)
        columns = slice(left, left + right * (width - 1) + 1, right)
        seen = padded[:, rows, columns].reshape(*call.shape[:3], groups, -1)
        taps = kernel[i, j].reshape(kernel.shape[2], groups, -1)
        if kernel.shape[2] == 1:
            total += seen * taps[0]
        else:
            for group in range(groups):
                total[..., group, :] += seen[..., group, :] @ taps[:, group]
    return call.rescaled(total.reshape(call.shape) + bias, x.scale * scales)


def _windows(x: np.ndarray, fill: int, call: Call) -> np.ndarray:
    options = call.node.attributes
    padded = np.pad(x, ((0, 0), *options["padding"], (0, 0)), constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(padded, options["window"], (1, 2))
    down, right = options["strides"]
    return views[:, ::down, ::right]


def max_pool(call: Call) -> np.ndarray:
    """The largest codes, on the grid of the input, then moved."""
    x = call.given[0]
    codes = _windows(x.codes, x.grid.lowest if x.grid else fixed.LOWEST, call).max((-2, -1))
    return call.moved(Operand(codes, x.grid))


def average_pool(call: Call) -> np.ndarray:
    """The mean of codes, halves away from zero, on the grid of the input, then moved."""
    x = call.given[0]
    zero = x.grid.zero if x.grid else 0
    total = _windows(x.codes.astype(np.int64), zero, call).sum((-2, -1))
    count = int(np.prod(call.node.attributes["window"]))
    mean = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return call.moved(Operand(fixed.saturated(mean, x.grid or call.grid), x.grid))
