"""Whether any layer has changed: what a network keeps about its layers is good until one does.

Setting or deleting an attribute of any module counts, such as a layer, a mode, a replaced method, and so does another
dtype of a parameter; the numbers in an array do not.
"""

from collections.abc import Callable
from typing import Any

_now = object()


def changed() -> None:
    """Say that a layer has changed."""
    global _now
    _now = object()


def kept(owner: Any, name: str, make: Callable[[], Any]) -> Any:
    """What ``make()`` returned for this owner and name since the last change."""
    now = _now  # before it is made: a change meanwhile counts
    state = vars(owner).setdefault("_kept", {})  # no attribute of the module's own: not by setattr
    made, value = state.get(name, (None, None))
    if made is not now:
        value = make()
        state[name] = now, value
    return value
