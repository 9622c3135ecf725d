"""A row, or a few, through a linear layer and back: the bits of a batch, in columns around all widths of panels."""

import guards
import numpy as np
import pytest

import convkit as ck
from convkit.kernels import native
from convkit.plan import linear as plans
from convkit.spec.linear import linear_spec

pytestmark = pytest.mark.skipif(not native.available, reason=native.reason or "")

COLUMNS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 63, 65, 127, 130, 255, 256, 257, 300, 1000)
DEPTHS = (1, 2, 63, 64, 65, 130, 4095, 4096, 4097, 8200)  # around chunks, and around a group of 64 chunks


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_has_the_bits_of_a_batch(isa, dtype):
    rng = np.random.default_rng(0)
    pairs = [(depth, columns) for depth in DEPTHS for columns in (COLUMNS if depth < 100 else (1, 33, 300))]
    for depth, columns in pairs:
        x, w, b = (rng.normal(size=shape).astype(dtype) for shape in ((3, depth), (columns, depth), columns))
        for bias in (b, None):
            with ck.use(isa=isa), ck.threads(2):
                run, (together, alone) = plans.plan(linear_spec(x, w, bias)[0]).run, np.empty((2, 3, columns), dtype)
                packed = run.pack(w)
                run.with_packed(x, packed, bias, together)
                for i in range(3):
                    run.with_packed(x[i:i + 1], packed, bias, alone[i:i + 1])
                np.testing.assert_array_equal(alone, together)
    np.testing.assert_allclose(together, ck.reference.linear(x, w), rtol=1e-3 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("depth", [1020, 1025, 1037, 2048, 3000, 4097])  # a part of the depth, around two, several
def test_weights_as_they_lie_give_the_bits_of_packed_ones(isa, dtype, depth):
    rng = np.random.default_rng(depth)
    for rows, columns in ((2, 70), (3, 1), (17, 257), (70, 131)):
        x, w, b = (rng.normal(size=shape).astype(dtype) for shape in ((rows, depth), (columns, depth), columns))
        for bias in (b, None):
            with ck.use(isa=isa), ck.threads(2):
                run = plans.plan(linear_spec(x, w, b)[0]).run
                packed, lying, alone = np.empty((3, rows, columns), dtype)
                panels = run.pack(w)
                run.with_packed(x, panels, bias, packed)
                run(x, w, bias, lying)
                for i in range(rows):
                    run.with_packed(x[i:i + 1], panels, bias, alone[i:i + 1])
                np.testing.assert_array_equal(lying, packed)
                np.testing.assert_array_equal(alone, packed)
        np.testing.assert_allclose(lying, ck.reference.linear(x, w), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_past_one_part_of_the_depth(isa, dtype):
    rng = np.random.default_rng(0)
    for rows, outputs, inputs in ((20, 1500, 900), (70, 2048, 33), (1100, 512, 50), (40, 1024, 24)):
        dy, x, w = (rng.integers(-3, 4, shape).astype(dtype)
                    for shape in ((rows, outputs), (rows, inputs), (outputs, inputs)))
        with ck.use(isa=isa), ck.threads(2):
            dx, dw, _ = ck.functional.linear_backward(dy, x, w)
        np.testing.assert_array_equal(dx, dy @ w)
        np.testing.assert_array_equal(dw, dy.T @ x)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("rows", [3, 20])
def test_nothing_outside_is_touched_by_a_batch(isa, at_end, rows):
    rng = np.random.default_rng(0)
    for depth, columns in ((1030, 70), (1100, 67), (9, 3)):
        x, w, bias, dy = (guards.guarded(rng.normal(size=shape).astype(np.float32), at_end=at_end)
                          for shape in ((rows, depth), (columns, depth), (columns,), (rows, columns)))
        y, dx, dw = (guards.guarded_empty(shape, np.float32, at_end=at_end)
                     for shape in ((rows, columns), (rows, depth), (columns, depth)))
        with ck.use(isa=isa):
            spec = linear_spec(x, w, bias)[0]
            plans.plan(spec).run(x, w, bias, y)
            plans.plan(spec.towards("input_gradient")).run(dy, w, dx)
            plans.plan(spec.towards("weight_gradient")).run(dy, x, dw)
        for got, right in ((y, x.astype(np.float64) @ w.T + bias), (dx, dy.astype(np.float64) @ w), (dw, dy.T @ x)):
            np.testing.assert_allclose(got, right, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("at_end", [False, True])
def test_products_of_all_remainders(isa, dtype, at_end):
    """Rows around tiles and blocks of them, columns around panels, depths around chunks; one image's bits are a batch's,
    and a gradient's weights as they lie (few rows) give those of copied panels."""
    rng = np.random.default_rng(0)
    for rows in (*range(1, 15), 23, 24, 25, 95, 97, 130):
        for depth, columns in ((1, 5), (10, 16), (63, 8), (64, 24), (65, 17), (128, 40), (130, 31), (1023, 9), (1025, 33)):
            if rows * depth > 30_000:
                continue
            x, w, bias, dy = (guards.guarded(rng.integers(-3, 4, shape).astype(dtype), at_end=at_end)
                              for shape in ((rows, depth), (columns, depth), (columns,), (rows, columns)))
            y, dx, dw = (guards.guarded_empty(shape, dtype, at_end=at_end)
                         for shape in ((rows, columns), (rows, depth), (columns, depth)))
            with ck.use(isa=isa), ck.threads(2):
                spec = linear_spec(x, w, bias)[0]
                run = plans.plan(spec).run
                for given in (bias, None):
                    run.with_packed(x, run.pack(w), given, y)
                    np.testing.assert_array_equal(y, x @ w.T + (0 if given is None else bias))
                plans.plan(spec.towards("input_gradient")).run(dy, w, dx)
                plans.plan(spec.towards("weight_gradient")).run(dy, x, dw)
            np.testing.assert_array_equal(dx, dy @ w)
            np.testing.assert_array_equal(dw, dy.T @ x)
    x, w, dy = (rng.normal(size=shape).astype(dtype) for shape in ((200, 300), (150, 300), (200, 150)))
    with ck.use(isa=isa):
        run = plans.plan(linear_spec(x, w)[0]).run
        y, few = np.empty((2, 200, 150), dtype)
        run.with_packed(x, run.pack(w), None, y)
        dx, few_dx = ck.functional.linear_backward(dy, x, w)[0], np.empty_like(x)
        for i in range(0, 200, 10):
            run.with_packed(x[i:i + 10], run.pack(w), None, few[i:i + 10])
            few_dx[i:i + 10] = ck.functional.linear_backward(dy[i:i + 10], x[i:i + 10], w)[0]
    np.testing.assert_array_equal(few, y)
    np.testing.assert_array_equal(few_dx, dx)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("at_end", [False, True])
def test_nothing_outside_is_touched(isa, at_end):
    rng = np.random.default_rng(0)
    for depth, columns in ((1, 1), (65, 17), (130, 300)):
        x, w, bias = (guards.guarded(rng.normal(size=shape).astype(np.float32), at_end=at_end)
                      for shape in ((1, depth), (columns, depth), (columns,)))
        y = guards.guarded_empty((1, columns), np.float32, at_end=at_end)
        with ck.use(isa=isa):
            run = plans.plan(linear_spec(x, w, bias)[0]).run
            run.with_packed(x, guards.guarded(run.pack(w), at_end=at_end), bias, y)
        np.testing.assert_allclose(y, ck.reference.linear(x, w, bias), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_a_few_rows_have_the_bits_of_a_batch(isa, dtype):
    rng = np.random.default_rng(0)
    pairs = [(depth, columns) for depth in DEPTHS for columns in (COLUMNS if depth < 100 else (1, 33, 300))]
    for depth, columns in [*pairs, (70, 2049), (9, 5000)]:
        dy, w = (rng.normal(size=shape).astype(dtype) for shape in ((9, depth), (depth, columns)))
        x = np.empty((9, columns), dtype)
        with ck.use(isa=isa), ck.threads(2):
            together = ck.functional.linear_backward(dy, x, w, needs=(True, False, False))[0]
            for rows in range(1, 9):
                alone = ck.functional.linear_backward(dy[:rows], x[:rows], w, needs=(True, False, False))[0]
                np.testing.assert_array_equal(alone, together[:rows])
    np.testing.assert_allclose(alone, (dy[:8].astype(np.float64) @ w).astype(dtype), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_gradients_of_a_few_rows_touch_nothing_outside(isa, at_end, rows):
    rng = np.random.default_rng(0)
    for depth, columns in ((1, 1), (65, 17), (130, 300), (3, 2050)):
        dy, w = (guards.guarded(rng.normal(size=shape).astype(np.float32), at_end=at_end)
                 for shape in ((rows, depth), (depth, columns)))
        dx = guards.guarded_empty((rows, columns), np.float32, at_end=at_end)
        with ck.use(isa=isa):
            spec = linear_spec(np.empty((rows, columns), np.float32), w)[0].towards("input_gradient")
            plans.plan(spec).run(dy, w, dx)
        np.testing.assert_allclose(dx, dy.astype(np.float64) @ w, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("at_end", [False, True])
def test_a_batch_through_wide_layers(isa, dtype, at_end):
    """Groups of panels with a narrow one at the end, tiles that rows do not fill, chunks of all lengths, blocks of rows
    where threads are more than groups."""
    rng = np.random.default_rng(0)
    for rows, depth, columns in ((9, 5, 200), (64, 64, 640), (65, 1030, 601), (13, 4100, 193), (101, 2048, 775)):
        x, w, b = (guards.guarded(rng.integers(-3, 4, shape).astype(dtype), at_end=at_end)
                   for shape in ((rows, depth), (columns, depth), columns))
        turned = guards.guarded(np.ascontiguousarray(w.T), at_end=at_end)
        y, dx = (guards.guarded_empty((rows, columns), dtype, at_end=at_end) for _ in range(2))
        for threads in (1, 2, 3):
            y[:], dx[:] = np.nan, np.nan
            with ck.use(isa=isa), ck.threads(threads):
                run = plans.plan(linear_spec(x, w, b)[0]).run
                run.with_packed(x, guards.guarded(run.pack(w), at_end=at_end), b, y)
                plans.plan(linear_spec(y, turned)[0].towards("input_gradient")).run(x, turned, dx)
            np.testing.assert_array_equal(y, x @ w.T + b)
            np.testing.assert_array_equal(dx, x @ w.T)
