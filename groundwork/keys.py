"""Random streams. One root key a replicate; a new stream never shifts an old one."""

import zlib

import jax


def roots(seed: int, replicates: int) -> jax.Array:
    """Root keys, [R]: replicate r of a run has `fold_in(key(seed), r)`, however large R is."""
    key = jax.random.key(seed)
    return jax.vmap(lambda r: jax.random.fold_in(key, r))(jax.numpy.arange(replicates))


def stream(key: jax.Array, name: str) -> jax.Array:
    """The key of the stream `name` below `key`, e.g. `stream(root, "init")`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
