"""Random streams: one root key per replicate; a new stream never shifts an old one."""

import zlib

import jax


def roots(seed: int, replicates: int) -> jax.Array:
    """Returns root keys, [R]. That of replicate r is `fold_in(key(seed), r)`, whatever R is."""
    key = jax.random.key(seed)
    return jax.vmap(lambda r: jax.random.fold_in(key, r))(jax.numpy.arange(replicates))


def stream(key: jax.Array, name: str) -> jax.Array:
    """Returns the key of the stream `name` below `key`, for example `stream(root, "init")`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
