"""Ways to compute a pooling and its gradient, best first.

``run`` takes C-contiguous arrays ``(planes, *size)`` in the spec's dtype and fills the last ones:
``plan(spec).run(x, y, indices)`` for maximum and minimum (int64 indices, or None where they are not wanted),
``plan(spec).run(x, y)`` for averages, and for the gradients ``scatter_plan(spec).run(dy, indices, dx)`` and
``average_gradient_plan(spec).run(dy, dx)``. There is at least one plane.
"""

from functools import partial
from math import prod

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import pool as reference
from convkit.spec.pool import check_indices

if native.available:
    from convkit.kernels import pool as kernels


def _three(axes, one):
    """``axes`` of one to three entries as three, with ``one`` in front."""
    return (one,) * (3 - len(axes)) + axes


def _kernel(name, spec, isa):
    """The kernel of that name for planes of a PoolSpec."""
    return kernels.Pool(name, isa, spec.dtype.itemsize, _three(spec.size, 1), _three(spec.out_size, 1),
                        _three(spec.kernel, 1), _three(spec.stride, 1), _three(spec.padding, (0, 0)),
                        _three(spec.dilation, 1), spec.count_include_pad, spec.divisor_override or 0)


def _direct_extreme(spec, isa):
    plain, indexed = _kernel(spec.kind, spec, isa), _kernel(f"{spec.kind}_indices", spec, isa)

    def run(x, y, indices):
        (plain if indices is None else indexed).forward(x, y, indices, settings.get_threads())

    return run


def _direct_average(spec, isa):
    kernel = _kernel("avg", spec, isa)
    return lambda x, y: kernel.forward(x, y, None, settings.get_threads())


def _direct_average_gradient(spec, isa):
    kernel = _kernel("avg_backward", spec, isa)
    return lambda dy, dx: kernel.backward(dy, None, dx, settings.get_threads())


def _direct_scatter(spec, isa):
    kernel = kernels.Pool("scatter", isa, spec.dtype.itemsize, _three(spec.size, 1), _three(spec.out_size, 1))

    def run(dy, indices, dx):
        if not kernel.backward(dy, indices, dx, settings.get_threads()):
            check_indices(spec, indices)

    return run


def _too_large_to_index(spec, _isa):
    elements = prod(spec.size)
    if spec.dtype.itemsize == 4 and elements > kernels.MAX_INDEXED:
        return f"planes of {elements} elements are above the {kernels.MAX_INDEXED} that 32-bit lanes number"
    return None


def _extreme(spec, x, y, indices):
    y[...], where = reference.extreme(spec, x)
    if indices is not None:
        indices[...] = where


_EXTREME = (Candidate("direct", _too_large_to_index, _direct_extreme),
            Candidate("reference", never, lambda spec, _isa: partial(_extreme, spec), native=False),)

CANDIDATES = {
    "max": _EXTREME,
    "min": _EXTREME,
    "avg": (Candidate("direct", never, _direct_average), twin(reference.average)),
}
SCATTER_CANDIDATES = (Candidate("direct", never, _direct_scatter), twin(reference.scatter))
AVERAGE_GRADIENT_CANDIDATES = (Candidate("direct", never, _direct_average_gradient),
                               twin(reference.average_gradient))


def plan(spec):
    """The plan for the forward pass of a PoolSpec."""
    return choose(spec, CANDIDATES[spec.kind])


def scatter_plan(spec):
    """The plan for the gradient of a maximum or minimum (ScatterSpec)."""
    return choose(spec, SCATTER_CANDIDATES)


def average_gradient_plan(spec):
    """The plan for the gradient of an average (PoolSpec)."""
    return choose(spec, AVERAGE_GRADIENT_CANDIDATES)
