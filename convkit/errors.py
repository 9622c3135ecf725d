"""What convkit raises.

A message is one sentence that names the argument, what came, and the rule that it broke.
"""


class ShapeError(ValueError):
    """A size, shape or geometry argument that has no meaning for the operation."""


class DtypeError(TypeError):
    """An argument of a type or dtype that the operation does not take."""


class NativeUnavailable(ImportError):
    """The compiled kernels are missing although they were required (``CONVKIT_REQUIRE_NATIVE=1``)."""


class FormatError(ValueError):
    """A file that breaks a rule of its format."""
