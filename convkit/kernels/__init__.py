"""The loops over batch, groups and tiles, in Cython over the C micro-kernels of ``csrc``.

Nothing here checks an argument or chooses an algorithm: ``spec`` and ``plan`` have done both.
``native`` says whether the compiled modules are there at all.
"""
