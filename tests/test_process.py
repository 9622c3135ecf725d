"""The library in a process: fork, threads, signals, memory, the environment, and life without kernels.

What could hang or die runs in a child with a deadline; a child that fails shows its traceback here.
"""

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit.kernels import native
from convkit.plan import common
from convkit.verification import same_bits

needs_native = pytest.mark.skipif(not native.available, reason=f"no compiled kernels: {native.reason}")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

ROOT = str(Path(convkit.__file__).parent.parent)

BIG = """
import os, signal, sys, threading, time
import numpy as np
import convkit
from convkit import functional as F
rng = np.random.default_rng(0)
x = rng.normal(size=(4, 32, 40, 40)).astype(np.float32)
w = rng.normal(size=(48, 32, 3, 3)).astype(np.float32)
"""


def child(code, *, timeout=60, env=None, expect=0):
    """Run ``code`` in a fresh interpreter; returns its standard output."""
    cleaned = {k: v for k, v in os.environ.items() if not k.startswith("CONVKIT_")}
    cleaned["PYTHONPATH"] = os.pathsep.join([ROOT, cleaned.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)], capture_output=True,
                          text=True, timeout=timeout, env={**cleaned, **(env or {})})
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout if expect == 0 else done.stderr


# ---- fork


@posix
def test_a_forked_child_computes_after_threaded_work_and_so_does_its_child():
    child(BIG + """
with convkit.threads(3):
    want = F.conv2d(x, w, padding=1)

    def descend(depth):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)  # a hang ends here
            same = np.array_equal(F.conv2d(x, w, padding=1), want)
            os._exit(0 if same and (depth == 0 or descend(depth - 1)) else 1)
        return os.waitpid(pid, 0)[1] == 0

    assert descend(2)
    assert np.array_equal(F.conv2d(x, w, padding=1), want)
""")


@posix
@needs_native
def test_a_child_forked_while_another_thread_computes():
    """The parent's pool is busy, its lock is held: the child must not wait for either."""
    child(BIG + """
want = F.conv2d(x[:1], w, padding=1)
stop = []

def busy():
    while not stop:
        with convkit.threads(2):
            F.conv2d(x, w, padding=1)

worker = threading.Thread(target=busy)
worker.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        with convkit.threads(2):
            os._exit(0 if np.array_equal(F.conv2d(x[:1], w, padding=1), want) else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.append(1)
worker.join()
""")


@posix
def test_a_pool_of_forked_processes():
    child("""
import multiprocessing
import numpy as np
from convkit import functional as F

x = np.arange(2 * 16 * 32 * 32, dtype=np.float32).reshape(2, 16, 32, 32) % 7 - 3
w = np.arange(24 * 16 * 9, dtype=np.float32).reshape(24, 16, 3, 3) % 5 - 2

def total(k):
    return float(F.conv2d(x + k, w, padding=1).sum(dtype=np.float64))

if __name__ == "__main__":
    mine = [total(k) for k in range(6)]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map_async(total, range(6)).get(40) == mine
    assert len(set(mine)) == 6
""")


# ---- threads


def test_threads_of_python_call_at_once_from_the_first_call_on():
    """The pool is taken, found busy, and made for the first time by several callers together."""
    child(BIG + """
want = [convkit.reference.conv2d(x[i:i + 1], w, padding=1) for i in range(4)]
gate = threading.Barrier(4)
wrong = []

def call(i):
    gate.wait()
    for _ in range(15):
        with convkit.threads(1 + i):
            y = F.conv2d(x[i:i + 1], w, padding=1)
        if not np.allclose(y, want[i], atol=1e-3):
            wrong.append(i)

callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
for c in callers: c.start()
for c in callers: c.join(60)
assert not any(c.is_alive() for c in callers)
assert not wrong, wrong
""")


def test_settings_are_scoped_to_their_thread():
    seen = {}
    gate = threading.Barrier(2)

    def look():
        gate.wait(10)
        seen["threads"], seen["choice"] = convkit.get_threads(), convkit.settings.choice()

    other = threading.Thread(target=look)
    other.start()
    outside = convkit.get_threads(), convkit.settings.choice()
    with convkit.threads(7), convkit.use(algorithm="reference"):
        assert convkit.get_threads() == 7
        assert convkit.settings.choice()[1] == "reference"
        with convkit.threads(3):
            assert convkit.get_threads() == 3
        with pytest.raises(RuntimeError), convkit.threads(5):
            raise RuntimeError
        assert convkit.get_threads() == 7
        gate.wait(10)
        other.join(10)
    assert (seen["threads"], seen["choice"]) == outside
    assert (convkit.get_threads(), convkit.settings.choice()) == outside


def test_the_process_default_reaches_other_threads():
    before = convkit.get_threads()
    try:
        convkit.set_threads(5)
        seen = []
        other = threading.Thread(target=lambda: seen.append(convkit.get_threads()))
        other.start()
        other.join(10)
        assert seen == [5]
    finally:
        convkit.set_threads(before)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "two", None, int])
def test_a_number_of_threads_is_a_positive_integer(bad):
    before = convkit.get_threads()
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1"):
        convkit.set_threads(bad)
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1"), convkit.threads(bad):
        pass
    assert convkit.get_threads() == before


def test_bad_arguments_leave_the_pool_usable():
    x, w = np.ones((2, 32, 40, 40), np.float32), np.ones((32, 32, 3, 3), np.float32)
    with convkit.threads(2):
        want = F.conv2d(x, w)
        for _ in range(20):
            with pytest.raises(convkit.ShapeError):
                F.conv2d(x, w, stride=0)
            with pytest.raises(convkit.ShapeError):
                F.max_pool2d_backward(want[:, :, :2, :2], np.full((2, 32, 2, 2), 10**6), x.shape)
            assert same_bits(F.conv2d(x, w), want)


# ---- signals

CTRL_C = BIG + """
def interrupted(call):
    want = F.conv2d(x, w, padding=1)
    raised = []
    for delay in (0.0, 0.2):
        timer = threading.Timer(0.4 + delay, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        start = time.monotonic()
        try:
            call()
        except KeyboardInterrupt:
            raised.append(time.monotonic() - start - 0.4 - delay)
        timer.cancel()
    assert len(raised) == 2, f"the call ended by itself after {time.monotonic() - start:.2f} s"
    assert max(raised) < 1.0, raised
    assert np.array_equal(F.conv2d(x, w, padding=1), want)

with convkit.threads(THREADS):
    big = np.lib.stride_tricks.as_strided(rng.normal(size=(1, 64, 96, 96)).astype(np.float32), (IMAGES, 64, 96, 96),
                                          (0, 96 * 96 * 4, 96 * 4, 4))
"""


@needs_native
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("call", ["forward", "input gradient", "weight gradient"])
def test_ctrl_c_stops_a_long_convolution_within_a_second(threads, call):
    code = CTRL_C.replace("THREADS", str(threads)).replace("IMAGES", "64") + """
    wide = rng.normal(size=(64, 64, 11, 11)).astype(np.float32)
    with convkit.use(algorithm="direct", isa="portable"):
        dy = F.conv2d(big[:1, :, :, :], wide[:, :, :1, :1])[..., :86, :86]
        dy = np.lib.stride_tricks.as_strided(dy, (64, *dy.shape[1:]), (0, *dy.strides[1:]))
        interrupted({"forward": lambda: F.conv2d(big, wide),
                     "input gradient": lambda: F.conv2d_backward(dy, big, wide, needs=(True, False, False)),
                     "weight gradient": lambda: F.conv2d_backward(dy, big, wide, needs=(False, True, False)),
                     }[CALL])
""".replace("CALL", repr(call))
    child(code)


@needs_native
def test_ctrl_c_stops_a_call_of_many_short_jobs():
    """Thousands of rounds, none of which lasts as long as the interval between two looks at the signals."""
    child(CTRL_C.replace("THREADS", "2").replace("IMAGES", "1") + """
    from convkit.plan import geometry
    geometry.SOURCE_BYTES = 1  # a box for each output: jobs of microseconds, 20 seconds of them
    large = rng.normal(size=(1, 64, 500, 500)).astype(np.float32)
    wide = rng.normal(size=(256, 64, 7, 7)).astype(np.float32)
    with convkit.use(algorithm="direct", isa="portable"):
        interrupted(lambda: F.conv2d(large, wide))
""")


# ---- memory


def test_memory_stays_flat_over_thousands_of_shapes():
    grown = child("""
import numpy as np
from convkit import functional as F
from convkit.plan import common

def resident():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) * 1024

def calls(first, last):
    for i in range(first, last):
        h, c = 3 + i % 41, 1 + i % 7
        x = np.ones((1, c, h, 3 + i // 41), np.float32)
        w = np.ones((1 + i % 5, c, 3, 3), np.float32)
        y = F.conv2d(x, w, padding=1)
        F.conv2d_backward(y, x, w, padding=1)
        F.max_pool2d(x, 3, 1, 1)

calls(0, 400)  # fills the cache of plans and NumPy's and the allocator's pools
before = resident()
calls(400, 1600)
assert len(common._plans) <= common.MAX_PLANS
print(resident() - before)
""", timeout=120)
    assert int(grown) < 32 << 20


def test_the_cache_of_plans_is_bounded(monkeypatch):
    monkeypatch.setattr(common, "MAX_PLANS", 10)
    common.clear()
    x = np.ones((1, 1, 40, 40), np.float32)
    for n in range(1, 31):
        F.conv2d(x, np.ones((1, 1, n, 1), np.float32))
        assert len(common._plans) <= 10
    assert len(common._plans) == 10
    common.clear()


def test_a_call_gives_back_large_scratch():
    """One call with much scratch must not keep it for the life of the thread."""
    kept = child("""
import numpy as np
from convkit import functional as F

def resident():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) * 1024

F.linear(np.ones((2, 2), np.float32), np.ones((1, 2), np.float32))
before = resident()
x = np.ones((4096, 6000), np.float32)  # transposed in scratch: 94 MiB
F.linear(x, np.ones((1, 6000), np.float32))
del x
print(resident() - before)
""")
    assert int(kept) < 32 << 20


# ---- the state of the processor


@needs_native
def test_denormals_are_neither_flushed_nor_left_to_flush():
    """FTZ and DAZ are bits of a thread: ours must be as they were, also in the workers."""
    child("""
import numpy as np
import convkit
from convkit import functional as F
tiny = np.array([1e-40], np.float32)
x = np.full((2, 64, 40, 40), 1e-40, np.float32)
w = np.zeros((64, 64, 1, 1), np.float32)
w[range(64), range(64)] = 1
with convkit.threads(3):
    assert np.array_equal(F.conv2d(x, w), x)
    assert np.array_equal(F.max_pool2d(x, 2), x[..., ::2, ::2])
    assert np.array_equal(F.relu(x), x)
assert (tiny * np.float32(0.5))[0] > 0
assert (tiny / np.float32(2))[0] > 0
""")


# ---- the environment

INFO = """
import json
import numpy as np
import convkit
from convkit import functional as F
from convkit.kernels import native
from convkit.plan import common
x = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
with common.recording() as plans:
    y = F.conv2d(x, np.ones((32, 2, 3, 3), np.float32))
print(json.dumps({"levels": native.ISA_LEVELS, "available": native.available, "reason": native.reason,
                  "threads": convkit.get_threads(), "plan": [plans[0].algorithm, plans[0].isa], "y": y.tolist()}))
"""


def info(env=None, before=""):
    return json.loads(child(before + INFO, env=env))


def test_the_environment_sets_level_algorithm_and_threads():
    plain = info()
    assert tuple(plain["levels"]) == native.ISA_LEVELS or "CONVKIT_ISA" in os.environ
    assert info({"CONVKIT_NUM_THREADS": "3"})["threads"] == 3
    forced = info({"CONVKIT_ALGORITHM": "reference"})
    assert forced["plan"] == ["reference", None]
    assert forced["y"] == plain["y"]
    for level in plain["levels"]:
        capped = info({"CONVKIT_ISA": level})
        assert capped["levels"] == plain["levels"][:plain["levels"].index(level) + 1]
        assert capped["plan"] == ["direct", level]
        assert capped["y"] == plain["y"]


@pytest.mark.parametrize(("variable", "value", "message"), [
    ("CONVKIT_ISA", "sse9", "CONVKIT_ISA must be one of portable, neon, avx2, avx512, got 'sse9'"),
    ("CONVKIT_ISA", "", "CONVKIT_ISA must be one of portable, neon, avx2, avx512, got ''"),
    ("CONVKIT_ISA", "AVX2", "CONVKIT_ISA must be one of portable, neon, avx2, avx512, got 'AVX2'"),
    ("CONVKIT_ALGORITHM", "fast", "CONVKIT_ALGORITHM must be one of"),
    ("CONVKIT_NUM_THREADS", "0", "CONVKIT_NUM_THREADS must be a whole number of at least 1, got 0"),
    ("CONVKIT_NUM_THREADS", "-2", "CONVKIT_NUM_THREADS must be a whole number of at least 1, got -2"),
    ("CONVKIT_NUM_THREADS", "many", "CONVKIT_NUM_THREADS must be a whole number of at least 1, got 'many'"),
    ("CONVKIT_NUM_THREADS", "", "CONVKIT_NUM_THREADS must be a whole number of at least 1, got ''"),
])
def test_a_bad_environment_is_named(variable, value, message):
    assert f"ValueError: {message}" in child("import convkit", env={variable: value}, expect=1)


@pytest.mark.parametrize("arguments",
                         [{"isa": "sse9"}, {"algorithm": "fast"}, {"isa": "reference"}, {"algorithm": "avx2"}])
def test_unknown_names_raise(arguments):
    with pytest.raises(ValueError, match="must be one"), convkit.use(**arguments):
        pass


# ---- without kernels

HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("convkit.kernels.") and not name.endswith(".native"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
"""


def test_without_kernels_everything_computes_and_says_so():
    bare = info(before=HIDE)
    assert bare["available"] is False
    assert "not installed" in bare["reason"]
    assert bare["levels"] == []
    assert bare["plan"] == ["reference", None]
    assert bare["y"] == info()["y"]
    out = child(HIDE + """
import numpy as np
import convkit
import convkit.nn as nn
from convkit.cli import main
from convkit import functional as F
model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1),
                      nn.Flatten(), nn.Linear(64, 3))
x = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
y, backward = model.forward(x)
loss, dloss = nn.CrossEntropyLoss().forward(y, np.array([0, 1, 2, 0, 1]))
backward(dloss())
assert np.isfinite(loss)
assert all(np.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())
print(convkit.explain("conv2d", (1, 3, 8, 8), (4, 3, 3, 3)))
try:
    with convkit.use(isa="avx2"): pass
except ValueError as exc:
    print(exc)
main(["info"])
""")
    assert "reference" in out
    assert "the compiled kernels are not installed" in out


def test_require_native_makes_the_absence_an_error():
    stderr = child(HIDE + "import convkit", env={"CONVKIT_REQUIRE_NATIVE": "1"}, expect=1)
    assert "NativeUnavailable: CONVKIT_REQUIRE_NATIVE is set, but the compiled kernels do not load" in stderr


def test_import_is_cheap_and_pulls_in_nothing_but_numpy():
    loaded = child("""
import sys
import numpy
before = set(sys.modules)
import convkit
new = {m.partition(".")[0] for m in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names)))
print(*sorted(m for m in sys.modules if m.startswith("convkit.")))
""").splitlines()
    assert {m for m in loaded[0].split() if not m.startswith(("_cython", "cython_runtime"))} == {"convkit"}
    later = {f"convkit.{name}" for name in ("nn", "cli", "optim", "training", "reference", "functional")}
    assert not later & set(loaded[1].split())
