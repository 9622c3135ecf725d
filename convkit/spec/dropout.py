"""What a dropout is."""

from dataclasses import dataclass

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class DropoutSpec:
    """Drops each element with probability ``p`` and multiplies the others by ``scale``."""

    p: float
    dtype: np.dtype

    @property
    def scale(self):
        """1 / (1 - p), and 0 where everything is dropped."""
        return 1.0 / (1.0 - self.p) if self.p < 1.0 else 0.0

    @property
    def limit(self):
        """Of the numbers from 0 to 2^31 - 1 those below it drop their element."""
        return round(self.p * 2**31)


def draw_key(rng):
    """64 bits of a generator, from which all of a mask follows."""
    return int(rng.integers(2**64, dtype=np.uint64))


def check_rng(rng):
    """Refuse what is no generator."""
    if not isinstance(rng, np.random.Generator):
        raise DtypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")


def dropout_spec(x, p, training, rank=0):
    """Check the operands (``rank`` as below); returns the DropoutSpec and ``training`` as a bool."""
    spec = _spec("x", x, p)
    check_channels("x", x, rank)
    return spec, common.flag("training", training)


def dropout_backward_spec(dy, mask, p, rank=0):
    """Check ``dy`` against the mask that a dropout returned (None when it was not training).

    Where whole channels are dropped, ``rank`` is the number of their axes, which the mask does not have.
    """
    spec = _spec("dy", dy, p)
    check_channels("dy", dy, rank)
    if mask is not None:
        if common.array("mask", mask).dtype != np.bool_:
            raise DtypeError(f"mask must be an array of bools, got mask.dtype={mask.dtype}")
        of = "dy without its last axes" if rank else "dy"
        common.check_shape("mask", mask.shape, dy.shape[:dy.ndim - rank], f"that of {of}")
    return spec


def check_channels(name, x, rank):
    """Refuse an array that has no channels of so many axes, with or without a batch axis."""
    if rank and x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{name} must have {rank + 1} or {rank + 2} axes (C, {common.AXES[rank]}) or "
                         f"(N, C, {common.AXES[rank]}), got {name}.shape={x.shape}")


def _spec(name, x, p):
    dtype = common.native_float(name, common.array(name, x).dtype)
    return DropoutSpec(common.real("p", p, 0.0, 1.0, "between 0 and 1"), dtype)
