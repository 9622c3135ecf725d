"""How a plan is chosen: order, reasons, forcing, the cache, and that a plan depends on nothing it should not."""

import threading

import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit.kernels import native
from convkit.plan import common, geometry
from convkit.plan import conv as conv_plan
from convkit.plan import linear as linear_plan
from convkit.plan import pool as pool_plan
from convkit.plan.common import AlgorithmRefused, Candidate, choose, never
from convkit.spec.conv import conv_spec
from convkit.spec.pool import pool_spec

F32 = np.dtype(np.float32)
needs_native = pytest.mark.skipif(not native.available, reason=f"no compiled kernels: {native.reason}")


def spec_of(x, w, direction="forward", dtype=F32, **options):
    return conv_spec(x, dtype, w, dtype, **options, rank=2, direction=direction)[0]


PLAIN = ((1, 32, 12, 12), (48, 32, 3, 3))


# ---- choosing, on candidates made for the test

def _refuse(spec, isa):
    return f"{spec} is odd" if spec % 2 else None


ODD_REFUSED = (Candidate("direct", _refuse, lambda spec, isa: ("direct", spec), native=False),
               Candidate("reference", never, lambda spec, isa: ("reference", spec), native=False))


def test_the_first_that_applies_is_taken_and_the_others_say_why():
    plan = choose(2, ODD_REFUSED)
    assert (plan.algorithm, plan.run, plan.considered) == ("direct", ("direct", 2), (("direct", None), ("reference", None)))
    plan = choose(3, ODD_REFUSED)
    assert (plan.algorithm, plan.run) == ("reference", ("reference", 3))
    assert plan.considered == (("direct", "3 is odd"), ("reference", None))
    assert plan.isa is None


def test_a_forced_candidate_is_taken_or_the_call_fails_with_its_reason():
    with convkit.use(algorithm="reference"):
        assert choose(2, ODD_REFUSED).algorithm == "reference"
    with convkit.use(algorithm="direct"):
        assert choose(2, ODD_REFUSED).algorithm == "direct"
        with pytest.raises(AlgorithmRefused, match="algorithm='direct' was forced but cannot compute .*: 3 is odd"):
            choose(3, ODD_REFUSED)
    with convkit.use(algorithm="depthwise"):  # no candidate of that name here: the order of preference stays
        assert choose(2, ODD_REFUSED).algorithm == "direct"
    assert issubclass(AlgorithmRefused, ValueError)


def test_equal_specs_of_different_operations_do_not_share_a_plan():
    other = (Candidate("reference", never, lambda spec, isa: "other", native=False),)
    assert choose(4, ODD_REFUSED).run == ("direct", 4)
    assert choose(4, other).run == "other"


def test_a_plan_is_made_once():
    made = []
    candidates = (Candidate("reference", never, lambda spec, isa: made.append(spec) or len(made), native=False),)
    assert [choose(s, candidates).run for s in (1, 1, 2, 1)] == [1, 1, 2, 1]
    assert made == [1, 2]
    common.clear()
    assert choose(1, candidates).run == 3


def test_the_oldest_plans_go_first(monkeypatch):
    monkeypatch.setattr(common, "MAX_PLANS", 3)
    common.clear()
    for i in (2, 4, 6, 8):
        choose(i, ODD_REFUSED)
    assert [key[0] for key in common._plans] == [4, 6, 8]
    common.clear()


def test_many_threads_choosing_at_once_keep_the_cache_bounded(monkeypatch):
    monkeypatch.setattr(common, "MAX_PLANS", 5)
    common.clear()
    failed = []

    def work(first):
        try:
            for i in range(first, first + 3000, 2):
                assert choose(i, ODD_REFUSED).run == ("direct", i)
        except Exception as exc:  # noqa: BLE001 - a thread's failure is reported by the test
            failed.append(exc)

    workers = [threading.Thread(target=work, args=(1000 * k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not failed
    assert len(common._plans) <= 5
    common.clear()


def test_recording_sees_the_plans_of_its_block():
    x, w = np.ones(PLAIN[0], F32), np.ones(PLAIN[1], F32)
    with common.recording() as plans:
        F.conv2d_backward(F.conv2d(x, w), x, w)
    assert [p.spec.direction for p in plans] == ["forward", "input_gradient", "weight_gradient", "bias_gradient"]
    F.conv2d(x, w)
    assert len(plans) == 4


# ---- which candidate for which spec

def algorithm(spec):
    return conv_plan.plan(spec).algorithm


CHOICES = [
    # x, weight, options, algorithm forward, dx, dw
    (*PLAIN, {}, "winograd", "winograd", "winograd"),
    (*PLAIN, {"stride": 2}, "direct", "direct", "direct"),
    ((1, 32, 14, 14), (32, 1, 3, 3), {"groups": 32}, "depthwise", "depthwise", "depthwise"),
    ((1, 128, 14, 14), (128, 64, 3, 3), {"groups": 2, "stride": 2, "dilation": 2}, "direct", "direct", "direct"),
    # every window holds only padding: no input has a gradient, and no phase is left for the depthwise kernels
    ((1, 1, 1, 1), (1, 1, 1, 1), {"stride": 5, "padding": 2}, "depthwise", "direct", "depthwise"),
]


@needs_native
@pytest.mark.parametrize(("x", "w", "options", "forward", "dx", "dw"), CHOICES)
def test_choices(x, w, options, forward, dx, dw):
    for isa in native.ISA_LEVELS[-1:]:
        with convkit.use(isa=isa):
            got = [algorithm(spec_of(x, w, d, **options)) for d in ("forward", "input_gradient", "weight_gradient")]
    assert got == [forward, dx, dw]


@needs_native
def test_every_candidate_of_every_operation_is_a_known_name_and_the_twin_is_last():
    from convkit.settings import ALGORITHMS

    lists = [*conv_plan.CANDIDATES.values(), *linear_plan.CANDIDATES.values(), *pool_plan.CANDIDATES.values(),
             *pool_plan.GRADIENT_CANDIDATES.values(), *pool_plan.TAPS_CANDIDATES.values(),
             pool_plan.SCATTER_CANDIDATES, pool_plan.TAPS_GRADIENT_CANDIDATES]
    for candidates in lists:
        assert {c.name for c in candidates} <= set(ALGORITHMS)
        assert candidates[-1].name == "reference"
        assert not candidates[-1].native
        assert candidates[-1].rejects is never
        assert len({c.name for c in candidates}) == len(candidates) > 1


@needs_native
def test_a_plan_knows_nothing_of_batch_and_threads():
    for n, threads in ((1, 1), (7, 3), (64, 8)):
        spec, count, _ = conv_spec((n, *PLAIN[0][1:]), F32, PLAIN[1], F32, rank=2)
        assert count == n
        with convkit.threads(threads):
            assert conv_plan.plan(spec) is conv_plan.plan(spec_of(*PLAIN))


@needs_native
def test_a_plan_belongs_to_its_level():
    seen = set()
    for isa in native.ISA_LEVELS:
        with convkit.use(isa=isa):
            plan = conv_plan.plan(spec_of(*PLAIN))
            assert plan.isa == isa
            seen.add(id(plan))
            with convkit.use(algorithm="reference"):
                assert conv_plan.plan(spec_of(*PLAIN)).isa is None
    assert len(seen) == len(native.ISA_LEVELS)


@needs_native
def test_a_refused_force_names_algorithm_and_reason():
    x, w = np.ones((1, 64, 6, 6), F32), np.ones((64, 64, 6, 6), F32)
    with convkit.use(algorithm="winograd"), pytest.raises(AlgorithmRefused, match="algorithm='winograd' was forced"):
        F.conv2d(x, w)


@needs_native
def test_the_workspace_is_told_and_bounded():
    for x, w, options in (((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
                          ((1, 512, 7, 7), (512, 512, 3, 3), {"padding": 1}),
                          ((1, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
                          ((1, 64, 1000, 1000), (8, 64, 3, 3), {})):
        for direction in ("forward", "input_gradient"):
            plan = conv_plan.plan(spec_of(x, w, direction, **options))
            weights = 4 * np.prod(w)  # at Winograd's points four times as large, and rounds grow with them
            assert 0 <= plan.run.workspace_bytes <= 6 * geometry.SOURCE_BYTES + 4 * weights


@needs_native
def test_pooling_falls_back_to_the_twin_only_where_the_lanes_cannot_number():
    from convkit.kernels import pool

    side = int(pool.MAX_INDEXED ** 0.5) + 1
    spec = pool_spec((1, 1, side, side), F32, 2, kind="max", rank=2)[0]
    plan = pool_plan.plan(spec)
    assert plan.algorithm == "reference"
    assert "32-bit lanes" in dict(plan.considered)["direct"]
    spec = pool_spec((1, 1, 64, 64), F32, 2, kind="max", rank=2)[0]
    assert pool_plan.plan(spec).algorithm == "direct"


# ---- geometry

def test_boxes_cover_every_target_once():
    for source_bytes in (1, 400, 5000, 10**7):
        for x, w, options in ((*PLAIN, {"padding": 1}),
                              ((1, 3, 30, 7), (4, 3, 5, 2), {"stride": (3, 2), "dilation": (2, 1)}),
                              ((1, 2, 9, 9), (2, 2, 2, 2), {"stride": 3, "padding": 1})):
            for direction in ("forward", "input_gradient"):
                axes = geometry.axes(spec_of(x, w, direction, **options))
                old, geometry.SOURCE_BYTES = geometry.SOURCE_BYTES, source_bytes
                try:
                    block = geometry.blocks(axes, 8, 4)
                finally:
                    geometry.SOURCE_BYTES = old
                for axis, size in zip(axes, block, strict=True):
                    assert 1 <= size <= max(axis.count, 1)
                    targets = [p.start + j * p.step for p in axis.phases for j in range(p.count)]
                    assert len(targets) == len(set(targets))
                    assert set(targets) <= set(range(axis.target))
                    assert axis.complete == (len(targets) == axis.target)
                    # a box is long enough for the last tap of its last target
                    furthest = max(j * axis.source_step + offset for p in axis.phases for j in range(min(size, p.count))
                                   for _, offset in p.taps)
                    assert furthest < axis.extent(size)


def test_every_tap_meets_its_target_exactly_once():
    """The phases of an input gradient, against the definition, for all small geometries of one axis."""
    for size in range(1, 8):
        for kernel in range(1, 5):
            for stride in range(1, 5):
                for lo in range(0, 4):
                    for dilation in (1, 2, 3):
                        padded = size + 2 * lo
                        if (kernel - 1) * dilation + 1 > padded:
                            continue
                        out = (padded - (kernel - 1) * dilation - 1) // stride + 1
                        want = {(p * stride + k * dilation - lo, k, p) for p in range(out) for k in range(kernel)
                                if 0 <= p * stride + k * dilation - lo < size}
                        axis = geometry.gradient_axis(size, out, kernel, stride, lo, dilation)
                        got = [(f.start + j * f.step, k, j * axis.source_step + offset - axis.lo)
                               for f in axis.phases for j in range(f.count) for k, offset in f.taps]
                        assert len(got) == len(set(got))
                        assert {g for g in got if 0 <= g[2] < out} == want
                        assert all(offset >= 0 for f in axis.phases for _, offset in f.taps)


def test_panels_are_as_wide_as_their_filters_need():
    most = (16, 14, 9, 7)
    for filters in range(1, 200):
        vectors = geometry.tile_vectors(filters, [(56, 56)], 576, 16, most)
        assert 1 <= vectors <= 4
        assert (vectors - 1) * 16 < filters
    assert geometry.tile_vectors(16, [(7, 7)], 4608, 16, most) == 1
    assert geometry.tile_vectors(512, [(7, 7)], 4608, 16, most) == 2, "two rows of 7 to a tile of 14"
