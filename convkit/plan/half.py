"""Ways to turn float16 into float32 and back, best first: ``run(x, y)`` on C-contiguous arrays.

NumPy's own conversion takes 14 (widening) and 28 (narrowing) times as long as a copy of the float32 array, together
more than a 1x1 convolution of that array; the kernels take one to two times as long as the copy.
"""

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.spec.common import FLOAT16

if native.available:
    from convkit.kernels import elementwise as kernels


def _direct(name):
    def build(_spec, isa):
        convert = getattr(kernels, name)
        return lambda x, y: convert(isa, x, y, settings.get_threads())
    return build


def _itself(_spec, x):
    return x


WIDEN_CANDIDATES = (Candidate("direct", never, _direct("widen")), twin(_itself))
NARROW_CANDIDATES = (Candidate("direct", never, _direct("narrow")), twin(_itself))


def widen_plan():
    """The plan for a float16 array that becomes float32."""
    return choose(FLOAT16, WIDEN_CANDIDATES)


def narrow_plan():
    """The plan for a float32 array that becomes float16, rounded to nearest."""
    return choose(FLOAT16, NARROW_CANDIDATES)
