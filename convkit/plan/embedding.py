"""Ways to pick rows of a table, best first: ``plan(spec).run(indices, weight, y)``, and of its gradient,
``backward_plan(spec).run(dy, indices, dweight)``.

``y`` and ``dy`` are ``(n, width)``, ``indices`` ``(n,)`` in int64, ``weight`` and ``dweight`` ``(rows, width)``;
C-contiguous. The first returns False where a number is no row; for the gradient all are.
"""

import numpy as np

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference.embedding import gradient
from convkit.spec.common import FLOAT16

if native.available:
    from convkit.kernels import embedding as kernels


def _direct(spec, isa):
    kernel = kernels.Embedding(isa, spec.dtype.itemsize, spec.rows, spec.width, spec.padding)
    return lambda dy, indices, dweight: kernel(dy, indices, dweight, settings.get_threads())


def _direct_lookup(spec, isa):
    kernel = kernels.Lookup(isa, spec.dtype.itemsize, spec.rows, spec.width)
    return lambda indices, weight, y: kernel(indices, weight, y, settings.get_threads())


def _taken(_spec, _isa):
    def run(indices, weight, y):
        if indices.size and not (indices.min() >= 0 and indices.max() < len(weight)):
            return False
        np.take(weight, indices, 0, out=y, mode="clip")  # which "raise" would buffer
        return True

    return run


def _no_half(spec, _isa):
    return "float16 is no dtype of the kernels" if spec.dtype == FLOAT16 else None


CANDIDATES = (Candidate("direct", _no_half, _direct_lookup), Candidate("reference", never, _taken, native=False))
BACKWARD_CANDIDATES = (Candidate("direct", never, _direct), twin(gradient))


def plan(spec):
    """The plan for an EmbeddingSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of an EmbeddingSpec."""
    return choose(spec, BACKWARD_CANDIDATES)
