"""Ways to compute the gradient of an embedding's table, best first: ``run(dy, indices, dweight)``.

``dy`` is ``(n, width)``, ``indices`` ``(n,)`` in int64 and in range, ``dweight`` ``(rows, width)``; C-contiguous.
"""

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference.embedding import gradient

if native.available:
    from convkit.kernels import embedding as kernels


def _direct(spec, isa):
    kernel = kernels.Embedding(isa, spec.dtype.itemsize, spec.rows, spec.width, spec.padding)
    return lambda dy, indices, dweight: kernel(dy, indices, dweight, settings.get_threads())


CANDIDATES = (Candidate("direct", never, _direct), twin(gradient))


def backward_plan(spec):
    """The plan for the gradient of an EmbeddingSpec."""
    return choose(spec, CANDIDATES)
