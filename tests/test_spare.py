"""The memory of large results, which the next ones get."""

import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit.kernels import native

pytestmark = pytest.mark.skipif(not native.available, reason="without kernels results are NumPy's own")

LARGE = 32 << 20


@pytest.fixture(autouse=True)
def _nothing_kept():
    before = convkit.get_spare_memory()
    convkit.set_spare_memory(0)
    convkit.set_spare_memory(256 << 20)
    yield
    convkit.set_spare_memory(before)


def kept():
    return native.operands.spare_kept()


def result(nbytes=LARGE, value=1.0):
    """A result of so many bytes."""
    return F.relu(np.full(nbytes // 4, value, np.float32))


def address(a):
    return a.ctypes.data


def test_a_large_result_gets_the_memory_of_the_last():
    y = result()
    first = address(y)
    assert kept() == 0
    del y
    assert LARGE <= kept() < LARGE + 65536
    y = result(value=2.0)
    assert address(y) == first and kept() == 0
    assert (y == 2).all()


def test_small_results_are_not_kept():
    for nbytes in (4, 1 << 20, LARGE - 4):
        result(nbytes)
    assert kept() == 0


def test_memory_goes_to_results_that_are_hardly_smaller():
    y = result(2 * LARGE)
    first = address(y)
    del y
    y = result()
    assert address(y) != first and kept() >= 2 * LARGE
    assert address(result(2 * LARGE - LARGE // 4)) == first


def test_what_is_kept_has_a_bound_and_the_oldest_goes_first():
    convkit.set_spare_memory(100 << 20)
    a, b, c = result(), result(40 << 20), result(48 << 20)
    second, third = address(b), address(c)
    del a, b
    assert kept() >= 72 << 20
    del c
    assert 88 << 20 <= kept() <= 100 << 20
    assert address(result(40 << 20)) == second
    assert address(result(48 << 20)) == third
    result(104 << 20)
    assert kept() <= 100 << 20


def test_without_a_bound_nothing_is_kept():
    y = result()
    convkit.set_spare_memory(0)
    del y
    assert kept() == 0 and convkit.get_spare_memory() == 0
    result()
    assert kept() == 0


def test_giving_back_at_once():
    result()
    assert kept()
    convkit.set_spare_memory(0)
    assert kept() == 0


def test_a_result_is_an_array_like_any_other():
    y = result()
    assert y.flags.owndata and y.base is None and y.flags.writeable
    y[:] = np.arange(y.size)
    assert (pickle.loads(pickle.dumps(y[:1000].copy())) == y[:1000]).all()
    view = y[10:20]
    del y
    assert kept() == 0 and view[0] == 10


@pytest.mark.parametrize("size", [LARGE // 4 + 5, LARGE, 1000, 1])
def test_a_result_can_be_resized(size):
    y = result()
    y[:] = np.arange(y.size)
    before = y[:1000].copy()
    same = min(size, 1000)
    y.resize(size, refcheck=False)
    assert y.size == size and (y[:same] == before[:same]).all() and not y[LARGE // 4:].any()
    del y
    result()
    assert kept()


def test_threads_share_what_is_kept():
    wrong = []

    def work(value):
        for _ in range(6):
            y = result(value=value)
            if not (y == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i + 1),)) for i in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
    assert LARGE <= kept() <= 256 << 20


def test_a_child_of_a_fork_has_its_own():
    code = f"""
import os, numpy as np, convkit.functional as F
from convkit.kernels import operands
x = np.ones({LARGE} // 4, np.float32)
y, z = F.relu(x), F.relu(x)
del z
pid = os.fork()
w = F.relu(2 * x)
good = (y == 1).all() and (w == 2).all() and operands.spare_kept() == 0
del w
good = good and operands.spare_kept() >= {LARGE}
if not pid:
    os._exit(0 if good else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and good
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there may be no such limit")
def test_what_is_kept_goes_before_memory_runs_out():
    code = f"""
import resource, numpy as np, convkit.functional as F
from convkit.kernels import operands
small, large = np.ones({LARGE} // 4, np.float32), np.ones(3 * {LARGE} // 4, np.float32)
F.relu(small), F.relu(large)
assert operands.spare_kept() >= 4 * {LARGE}
with open("/proc/self/statm") as f:
    used = int(f.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {LARGE}, resource.RLIM_INFINITY))
y = F.relu(large[:2 * {LARGE} // 4])
assert operands.spare_kept() == 0 and y[0] == y[-1] == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("value", "bound"), [("0", 0), ("64", 64 << 20)])
def test_the_environment_sets_the_bound(value, bound, monkeypatch):
    monkeypatch.setenv("CONVKIT_SPARE_MB", value)
    subprocess.run([sys.executable, "-c", f"import convkit; assert convkit.get_spare_memory() == {bound}"], check=True)


@pytest.mark.parametrize("value", [-1, 1.5, "many", None, 1 << 60])
def test_a_bound_that_is_none(value):
    with pytest.raises(ValueError, match="nbytes must be a whole number of at least 0, got"):
        convkit.set_spare_memory(value)
