"""Ways to unfold and fold, best first: ``unfold_plan(spec).run(x, columns)``, ``fold_plan(spec).run(columns, x)``.

Arrays are C-contiguous: ``x`` is ``(planes, *size)``, ``columns`` ``(planes, taps, *out_size)``.
"""

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference.fold import folded, unfolded

if native.available:
    from convkit.kernels import fold as kernels


def _three(axes, one):
    return (one,) * (3 - len(axes)) + axes


def _direct(name):
    def build(spec, isa):
        kernel = kernels.Fold(name, isa, spec.dtype.itemsize, _three(spec.size, 1), _three(spec.out_size, 1),
                              _three(spec.kernel, 1), _three(spec.stride, 1), _three(spec.padding, (0, 0)),
                              _three(spec.dilation, 1))
        return lambda source, target: kernel(source, target, settings.get_threads())
    return build


UNFOLD_CANDIDATES = (Candidate("direct", never, _direct("unfold")), twin(unfolded))
FOLD_CANDIDATES = (Candidate("direct", never, _direct("fold")), twin(folded))


def unfold_plan(spec):
    """The plan for unfolding (FoldSpec)."""
    return choose(spec, UNFOLD_CANDIDATES)


def fold_plan(spec):
    """The plan for folding (FoldSpec)."""
    return choose(spec, FOLD_CANDIDATES)
