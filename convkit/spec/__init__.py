"""What one call is: checked once, canonical, hashable, frozen.

This is the only floor that checks arguments and the only one that knows output shapes. Everything below it
may rely on a spec: its sizes are positive Python integers, every window lies where the operation allows it,
and no array that the call needs is larger than ``common.MAX_BYTES``.
"""
