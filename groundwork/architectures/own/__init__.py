"""Networks of a user's own, in Linen, NNX or plain functions, behind `init` and `apply`."""

from groundwork.architectures.own.network import Own, build, of

__all__ = ["Own", "build", "of"]
