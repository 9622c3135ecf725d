"""Ways to compute a linear map and its two gradients, best first.

``plan(spec).run`` takes C-contiguous matrices and fills the last one: ``run(x, weight, bias, y)`` forward (bias may
be None), ``run(dy, weight, dx)`` for the input gradient and ``run(dy, x, dw)`` for the weight gradient. A forward
``run`` that packs its weight offers it as ``plan.conv`` describes.
"""

from convkit import settings
from convkit.plan import geometry
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference.linear import forward, input_gradient, weight_gradient

# A panel is as wide as the tile of this many rows likes it. The batch is not known to a plan, and results must not
# depend on it; any width gives the same bits.
ROWS = 64


class _Product:
    """What the three share: panels of the right operand, and the call."""

    def __init__(self, spec, isa, depth, columns):
        from convkit.kernels import conv, linear

        lanes, most = conv.tile_limits(isa, spec.dtype.itemsize)
        self.kernels = linear
        self.vectors = geometry.tile_vectors(columns, [(ROWS, 1)], depth, lanes, most)
        self.shape = spec.dtype, isa, depth, columns, self.vectors

    def _panels(self):
        return self.kernels.Panels(*self.shape)

    def _multiply(self, a, panels, bias, c, a_is_transposed=False):
        self.kernels.multiply(a, panels, bias, c, a_is_transposed, settings.get_threads())


class Forward(_Product):
    """``y = x w' + b``: panels of transposed weight rows."""

    def __init__(self, spec, isa):
        super().__init__(spec, isa, spec.in_features, spec.out_features)
        self.pack_key = ("direct", isa, self.vectors)

    def __call__(self, x, weight, bias, y):
        self.with_packed(x, self.pack(weight), bias, y)

    def pack(self, weight):
        return self._panels().pack_rows(weight)

    def with_packed(self, x, packed, bias, y):
        self._multiply(x, packed, bias, y)


class InputGradient(_Product):
    """``dx = dy w``: panels of weight columns."""

    def __init__(self, spec, isa):
        super().__init__(spec, isa, spec.out_features, spec.in_features)

    def __call__(self, dy, weight, dx):
        self._multiply(dy, self._panels().pack_columns(weight), None, dx)


class WeightGradient:
    """``dw = dy' x``: panels of columns of x; the depth is the batch, so nothing is kept between calls."""

    def __init__(self, spec, isa):
        self.spec, self.isa = spec, isa

    def __call__(self, dy, x, dw):
        product = _Product(self.spec, self.isa, len(x), x.shape[1])
        product._multiply(dy, product._panels().pack_columns(x), None, dw, a_is_transposed=True)


def _no_features(spec, _isa):
    return None if spec.in_features else "there are no input features to sum over"


CANDIDATES = {
    "forward": (Candidate("direct", _no_features, Forward), twin(forward)),
    "input_gradient": (Candidate("direct", never, InputGradient), twin(input_gradient)),
    "weight_gradient": (Candidate("direct", never, WeightGradient), twin(weight_gradient)),
}


def plan(spec):
    """The plan for a LinearSpec, in the spec's direction."""
    return choose(spec, CANDIDATES[spec.direction])
