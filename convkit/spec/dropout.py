"""What a dropout is."""

from dataclasses import dataclass

import numpy as np

from convkit.errors import DtypeError
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


def dropout_spec(x, p, training, rng):
    """Check the operands; returns the DropoutSpec and ``training`` as a bool."""
    if not isinstance(rng, np.random.Generator):
        raise DtypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
    return _spec("x", x, p), common.flag("training", training)


def dropout_backward_spec(dy, mask, p):
    """Check ``dy`` against the mask that ``dropout`` returned (None when it was not training)."""
    spec = _spec("dy", dy, p)
    if mask is not None:
        if common.array("mask", mask).dtype != np.bool_:
            raise DtypeError(f"mask must be an array of bools, got mask.dtype={mask.dtype}")
        common.check_shape("mask", mask.shape, dy.shape, "that of dy")
    return spec


def _spec(name, x, p):
    dtype = common.native_float(name, common.array(name, x).dtype)
    return DropoutSpec(common.real("p", p, 0.0, 1.0, "between 0 and 1"), dtype)
