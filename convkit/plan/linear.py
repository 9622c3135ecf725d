"""Ways to compute a linear map and its gradients, best first.

``plan(spec).run`` takes C-contiguous matrices and fills the last one: ``run(x, weight, bias, y)`` forward (bias may
be None), ``run(dy, weight, dx)`` for the input gradient, ``run(dy, x, dw)`` for the weight gradient and ``run(dy, db)``
for that of the bias. A forward ``run`` that packs its weight offers it as ``plan.conv`` describes, with the same bits.
"""

from convkit import settings
from convkit.plan import geometry
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference.linear import bias_gradient, forward, input_gradient, weight_gradient

# A panel is as wide as the tile of this many rows likes it. The batch is not known to a plan, and results must not
# depend on it; any width gives the same bits.
BATCH = 64


# Panels of three vectors, which have tiles of their own at one level, are for weights that come from memory: so many of
# them waste little on the last one.
MANY_PANELS = 8
LARGE = 1 << 21  # bytes of weights


class _Product:
    """What the three share: the kernel for a product of ``rows`` rows or so and so many columns."""

    def __init__(self, spec, isa, rows, depth, columns):
        from convkit.kernels import conv, linear

        itemsize = spec.dtype.itemsize
        lanes, most = conv.tile_limits(isa, itemsize)
        vectors = geometry.tile_vectors(columns, [(rows, 1)], depth, lanes, most)
        pair = linear.most_vectors(isa, itemsize)
        if rows == BATCH and 3 * most[2] == 12 and columns >= 3 * lanes * MANY_PANELS and (
                not pair or depth * columns * itemsize > LARGE):
            vectors = 3
        elif pair:
            vectors = min(pair, -(-columns // lanes))
        row_vectors = geometry.tile_vectors(rows, [(columns, 1)], depth, lanes, most)
        self.kernels, self.kernel = linear, linear.Product(isa, spec.dtype, vectors, row_vectors)
        self.pack_key = ("direct", isa, vectors)


class Forward(_Product):
    """``y = x w' + b``."""

    def __init__(self, spec, isa):
        super().__init__(spec, isa, BATCH, spec.in_features, spec.out_features)

    def __call__(self, x, weight, bias, y):
        self.kernel.multiply(x, weight, self.kernels.ROWS, bias, y, False, settings.get_threads())

    def pack(self, weight):
        return self.kernel.pack_rows(weight, settings.get_threads())

    def with_packed(self, x, packed, bias, y):
        self.kernel.multiply(x, packed, self.kernels.PACKED, bias, y, False, settings.get_threads())


class InputGradient(_Product):
    """``dx = dy w``."""

    def __init__(self, spec, isa):
        super().__init__(spec, isa, BATCH, spec.out_features, spec.in_features)

    def __call__(self, dy, weight, dx):
        self.kernel.multiply(dy, weight, self.kernels.COLUMNS, None, dx, False, settings.get_threads())


class WeightGradient(_Product):
    """``dw = dy' x``: the depth is the batch."""

    def __init__(self, spec, isa):
        super().__init__(spec, isa, spec.out_features, BATCH, spec.in_features)

    def __call__(self, dy, x, dw):
        self.kernel.multiply(dy, x, self.kernels.COLUMNS, None, dw, True, settings.get_threads())


def _column_sums(spec, isa):
    from convkit.kernels.norm import Norm

    kernel = Norm("channel_sum", isa, spec.dtype.itemsize)
    return lambda dy, db: kernel.sums(dy[:, :, None], db, settings.get_threads())


def _no_features(spec, _isa):
    return None if spec.in_features else "there are no input features to sum over"


CANDIDATES = {
    "forward": (Candidate("direct", _no_features, Forward), twin(forward)),
    "input_gradient": (Candidate("direct", never, InputGradient), twin(input_gradient)),
    "weight_gradient": (Candidate("direct", never, WeightGradient), twin(weight_gradient)),
    "bias_gradient": (Candidate("direct", never, _column_sums), twin(bias_gradient)),
}


def plan(spec):
    """The plan for a LinearSpec, in the spec's direction."""
    return choose(spec, CANDIDATES[spec.direction])
