"""Twenty seeded tensors of orders 3 and 4, structured and random, each with a rank for CP."""

import numpy as np

SHAPES = (((6, 7, 8), 3), ((3, 3, 8, 10), 4))


def low_rank(rng, shape, rank, noise=0.0):
    """A sum of `rank` outer products of normal vectors, with noise of that relative norm."""
    letters = "abcd"[: len(shape)]
    factors = [rng.normal(size=(size, rank)) for size in shape]
    tensor = np.einsum(",".join(x + "k" for x in letters) + "->" + letters, *factors)
    blur = rng.normal(size=shape)
    return tensor + noise * np.linalg.norm(tensor) / np.linalg.norm(blur) * blur


def smooth(rng, shape):
    """A kernel-like bump: 1 / (1 + a distance between scaled coordinates)."""
    axes = np.meshgrid(*(np.sort(rng.uniform(0, 2, n)) for n in shape), indexing="ij")
    return 1 / (1 + sum(a * axis for a, axis in zip(rng.uniform(0.5, 2, 4), axes, strict=False)))


def twenty():
    """(name, tensor, rank): five of each kind and shape, float32."""
    made = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for shape, rank in SHAPES:
            structured = smooth(rng, shape) if seed % 2 else low_rank(rng, shape, rank, 0.1)
            made.append((f"random{len(shape)}-{seed}", rng.normal(size=shape), rank))
            made.append((f"structured{len(shape)}-{seed}", structured, rank))
    return [(name, tensor.astype("f4"), rank) for name, tensor, rank in made]
