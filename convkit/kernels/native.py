"""The one place that asks whether the compiled kernels are there.

``available`` is False on a machine that installed without a C compiler; every plan then names the NumPy
twin as its choice and ``reason`` says why. ``CONVKIT_REQUIRE_NATIVE=1`` turns the absence into an error.
"""

import os

from convkit.errors import NativeUnavailable

ISA_ENV = "CONVKIT_ISA"

try:
    from convkit.kernels import operands, runtime  # of all, `operands` needs NumPy as it was compiled for
except ImportError as exc:
    if os.environ.get("CONVKIT_REQUIRE_NATIVE", "0") not in ("", "0"):
        raise NativeUnavailable(f"CONVKIT_REQUIRE_NATIVE is set, but the compiled kernels do not load: {exc}") from exc
    operands = runtime = None
    available = False
    reason = f"the compiled kernels are not installed ({exc})"
else:
    available = True
    reason = None

KNOWN_ISAS = ("portable", "neon", "avx2", "avx512")


def _levels():
    """ISA levels that were compiled and that this CPU and OS can run, lowest first, capped by CONVKIT_ISA."""
    cap = os.environ.get(ISA_ENV)
    if cap is not None and cap not in KNOWN_ISAS:
        raise ValueError(f"{ISA_ENV} must be one of {', '.join(KNOWN_ISAS)}, got {cap!r}")
    if not available:
        return ()
    levels = runtime.isa_levels()
    return levels if cap is None else tuple(i for i in levels if KNOWN_ISAS.index(i) <= KNOWN_ISAS.index(cap))


ISA_LEVELS = _levels()
