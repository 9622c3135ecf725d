"""Ways to compute a pooling and its gradient, best first.

``run`` takes C-contiguous arrays ``(planes, *size)`` in the spec's dtype and fills the last ones; there is at least one
plane. ``plan(spec)`` is for the forward passes, ``gradient_plan(spec)`` for those whose gradient comes from their spec:

==============  ==========================  =====================================
kind            ``plan(spec).run``          ``gradient_plan(spec).run``
==============  ==========================  =====================================
max, min        ``(x, y, indices)``         (``scatter_plan``)
avg             ``(x, y)``                  ``(dy, dx)``
lp              ``(x, y)``                  ``(dy, x, y, dx)``
adaptive_max    ``(x, y, indices)``         (``scatter_plan``)
adaptive_avg    ``(x, y)``                  ``(dy, dx)``
unpool          ``(x, indices, y)``         ``(dy, indices, dx)``
==============  ==========================  =====================================

Indices are int64, or None where they are not wanted; ``scatter_plan(spec).run(dy, indices, dx)`` is the way back.
Layers keep the number of the tap in a byte instead: ``taps_plan(spec).run(x, y, taps)`` and
``taps_gradient_plan(spec).run(dy, taps, dx)``.
"""

from functools import partial
from math import inf, prod

import numpy as np

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import adaptive as reference_adaptive
from convkit.reference import pool as reference
from convkit.reference import unpool as reference_unpool
from convkit.spec.common import INT64
from convkit.spec.pool import check_indices

if native.available:
    from convkit.kernels import pool as kernels
    from convkit.kernels.conv import tile_limits


MAX_TAPS = 256


def _three(axes, one):
    """``axes`` of one to three entries as three, with ``one`` in front."""
    return (one,) * (3 - len(axes)) + axes


def _planes(name, spec, isa, **windows):
    """The kernel of that name for planes of a spec's sizes."""
    itemsize = spec.dtype.itemsize
    return kernels.Pool(name, isa, itemsize, _three(spec.size, 1), _three(spec.out_size, 1),
                        lanes=tile_limits("avx2" if isa == "avx512" else isa, itemsize)[0], **windows)


def _kernel(name, spec, isa):
    """The kernel of that name for planes of a PoolSpec."""
    power = spec.norm_type if spec.kind == "lp" and spec.norm_type < inf else 1
    return _planes(name, spec, isa, kernel=_three(spec.kernel, 1), stride=_three(spec.stride, 1),
                   padding=_three(spec.padding, (0, 0)), dilation=_three(spec.dilation, 1),
                   include_pad=spec.count_include_pad, divisor=spec.divisor_override or 0, power=power,
                   whole=spec.elements)


def _adaptive_kernel(name, spec, isa):
    """The kernel of that name for an AdaptiveSpec: plain windows where all are the same, as many elements apart."""
    axes = [divmod(n, p) for n, p in zip(spec.size, spec.out_size, strict=True)]
    if any(step == 0 or rest > 1 for step, rest in axes):
        return _planes(name, spec, isa, adaptive=True)
    return _planes(name, spec, isa, kernel=_three(tuple(step + rest for step, rest in axes), 1),
                   stride=_three(tuple(step for step, _ in axes), 1))


# ---- the kernels of csrc/pool


def _extreme(kind, make):
    def build(spec, isa):
        plain, indexed = make(kind, spec, isa), make(f"{kind}_indices", spec, isa)

        def run(x, y, indices):
            (plain if indices is None else indexed).run(x, y, settings.get_threads(), indices)

        return run
    return build


def _plain(name, make):
    """``run(source, target)``."""
    def build(spec, isa):
        kernel = make(name, spec, isa)
        return lambda source, target: kernel.run(source, target, settings.get_threads())
    return build


def _taps(kind):
    def build(spec, isa):
        kernel = _kernel(f"{kind}_taps", spec, isa)
        return lambda x, y, taps: kernel.run(x, y, settings.get_threads(), taps)
    return build


def _taps_gradient(spec, isa):
    kernel = _kernel("taps_backward", spec, isa)
    return lambda dy, taps, dx: kernel.run(dy, dx, settings.get_threads(), taps)


def _by_index(name):
    """``run(source, indices, target)``, whose kernel also looks whether every index lies inside."""
    def build(spec, isa):
        kernel = _planes(name, spec, isa)

        def run(source, indices, target):
            if not kernel.run(source, target, settings.get_threads(), indices):
                check_indices(spec, indices)

        return run
    return build


def _lp(spec, isa):
    if spec.norm_type < inf:
        return _plain("lp", _kernel)(spec, isa)
    largest = _kernel("max", spec, isa)
    return lambda x, y: largest.run(np.abs(x), y, settings.get_threads())


def _lp_gradient(spec, isa):
    if spec.norm_type < inf:
        kernel = _kernel("lp_backward", spec, isa)
        return lambda dy, x, y, dx: kernel.run(dy, dx, settings.get_threads(), None, x, y)
    largest, scatter = _kernel("max_indices", spec, isa), _planes("scatter", spec, isa)

    def run(dy, x, y, dx):
        indices = np.empty(dy.shape, INT64)
        largest.run(np.abs(x), np.empty_like(dy), settings.get_threads(), indices)
        scatter.run(dy, dx, settings.get_threads(), indices)
        dx *= np.sign(x)

    return run


# ---- when they cannot


def _too_large_to_index(spec, _isa):
    elements = prod(spec.size)
    if spec.dtype.itemsize == 4 and elements > kernels.MAX_INDEXED:
        return f"planes of {elements} elements are above the {kernels.MAX_INDEXED} that 32-bit lanes number"
    return None


def _lp_too_large(spec, isa):
    return _too_large_to_index(spec, isa) if spec.norm_type == inf else None


def _extreme_twin(compute):
    def run(spec, x, y, indices):
        y[...], where = compute(spec, x)
        if indices is not None:
            indices[...] = where
    return Candidate("reference", never, lambda spec, _isa: partial(run, spec), native=False)


def _direct(build, rejects=never):
    return Candidate("direct", rejects, build)


_EXTREME_TWIN = _extreme_twin(reference.extreme)

CANDIDATES = {
    "max": (_direct(_extreme("max", _kernel), _too_large_to_index), _EXTREME_TWIN),
    "min": (_direct(_extreme("min", _kernel), _too_large_to_index), _EXTREME_TWIN),
    "avg": (_direct(_plain("avg", _kernel)), twin(reference.average)),
    "lp": (_direct(_lp), twin(reference.power_mean)),
    "adaptive_max": (_direct(_extreme("max", _adaptive_kernel), _too_large_to_index),
                     _extreme_twin(reference_adaptive.extreme)),
    "adaptive_avg": (_direct(_plain("avg", _adaptive_kernel)), twin(reference_adaptive.average)),
    "unpool": (_direct(_by_index("place")), twin(reference_unpool.place)),
}
GRADIENT_CANDIDATES = {
    "avg": (_direct(_plain("avg_backward", _kernel)), twin(reference.average_gradient)),
    "lp": (_direct(_lp_gradient, _lp_too_large), twin(reference.power_mean_gradient)),
    "adaptive_avg": (_direct(_plain("avg_backward", _adaptive_kernel)), twin(reference_adaptive.average_gradient)),
    "unpool": (_direct(_by_index("gather")), twin(reference_unpool.gather)),
}
SCATTER_CANDIDATES = (_direct(_by_index("scatter")), twin(reference.scatter))
TAPS_CANDIDATES = {
    kind: (_direct(_taps(kind)), _extreme_twin(reference.extreme_taps)) for kind in ("max", "min")}
TAPS_GRADIENT_CANDIDATES = (_direct(_taps_gradient), twin(reference.taps_gradient))


def plan(spec):
    """The plan for the forward pass of a pooling."""
    return choose(spec, CANDIDATES[spec.kind])


def gradient_plan(spec):
    """The plan for the gradient of a pooling that has one of its own."""
    return choose(spec, GRADIENT_CANDIDATES[spec.kind])


def scatter_plan(spec):
    """The plan for the gradient of a maximum or minimum (ScatterSpec)."""
    return choose(spec, SCATTER_CANDIDATES)


def taps_pay(spec):
    """Whether a layer keeps the number of the tap, in a byte, instead of an index.

    Its gradient looks at every window that an element lies in, side by side; where those are many, or far apart, it is
    faster to scatter.
    """
    taps = prod(spec.kernel)
    return taps <= MAX_TAPS and taps <= 9 * prod(spec.stride) and max(spec.dilation) == 1 and spec.stride[-1] <= 2


def taps_plan(spec):
    """The plan for the forward pass of a maximum or minimum (PoolSpec) in a layer that learns."""
    return choose(spec, TAPS_CANDIDATES[spec.kind])


def taps_gradient_plan(spec):
    """The plan for the gradient of that."""
    return choose(spec, TAPS_GRADIENT_CANDIDATES)
