"""Build: Cython modules over C kernels, one source compiled once per instruction set level.

Switches (environment variables):
    CONVKIT_REQUIRE_NATIVE=1   a failing compiler is an error instead of an install without kernels
    CONVKIT_DEBUG=1            Cython's checks and the C assertions on
    CONVKIT_WERROR=1           warnings of our own C files are errors
    CONVKIT_SANITIZE=address,undefined   build with sanitizers
    CONVKIT_EMULATE=avx512     that level in AVX2 instructions, to be tested where the CPU has no others
"""

import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import zipfile
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent


def switch(name):
    return os.environ.get(f"CONVKIT_{name}", "0") not in ("", "0")


def compiler_knows(option):
    cc = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    try:
        return not subprocess.run([*cc, "-Werror", option, "-E", "-x", "c", os.devnull], capture_output=True).returncode
    except OSError:  # no compiler: setup goes on without kernels, and says so
        return False


DEBUG, WERROR, REQUIRE_NATIVE = switch("DEBUG"), switch("WERROR"), switch("REQUIRE_NATIVE")
SANITIZE = os.environ.get("CONVKIT_SANITIZE", "")
EMULATE = os.environ.get("CONVKIT_EMULATE", "")

X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM64 = platform.machine().lower() in ("aarch64", "arm64")

# level -> (macro or None, compiler flags); the levels of this CPU family, lowest first.
# Hardly a CPU runs the portable level, so it is compiled for size: the wheel feels it.
LEVELS = {"portable": (None, ["-Os"])}
if X86:
    LEVELS["avx2"] = ("CK_AVX2", ["-mavx2", "-mfma", "-mf16c", "-mbmi2"])
    LEVELS["avx512"] = ("CK_AVX512", [*LEVELS["avx2"][1], "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl",
                                      "-mprefer-vector-width=512"])
elif ARM64:
    LEVELS["neon"] = ("CK_NEON", [])

EMULATED = "tests/avx512_emulated.h"
if EMULATE == "avx512" and X86:  # kept simple for GCC 12, which breaks down where it forwards vectors this long
    LEVELS["avx512"] = ("CK_AVX512", [*LEVELS["avx2"][1], "-include", EMULATED, "-O1", "-fno-tree-forwprop",
                                      "-Wno-psabi"])
elif EMULATE:
    raise SystemExit(f"CONVKIT_EMULATE={EMULATE}: only avx512 can be emulated, and only on x86-64")
elif SANITIZE:  # AVX-512 alone has masked loads and stores, which no sanitizer sees, in the slowest builds
    LEVELS.pop("avx512", None)

# No -ffast-math: NaN, infinities, signed zeros and denormals are part of the contract. -ffp-contract=off: a
# multiply-add is fused where the kernel says so and nowhere else, so bits do not depend on the compiler's mood.
CFLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden",
          "-fno-semantic-interposition"]
# Kernels write out the loops that should be there twice; GCC would split and unswitch others too, 28 KB of the wheel.
CFLAGS += [option for option in ("-fno-split-loops", "-fno-unswitch-loops") if compiler_knows(option)]
# Families whose kernels gain nothing from longer vectors: at AVX-512 they are those of AVX2.
NO_AVX512 = ("fold", "pool")
# GCC's own vectors, of what is not written as such: 6 KB of the wheel in this family, and of use in every other one.
NO_OTHER_VECTORS = ("fold",)
# -Wno-pass-failed: Clang warns where it cannot unroll a loop whose length is known only after inlining.
WARNINGS = ["-Wall", "-Wextra", "-Wno-pass-failed", *(["-Werror"] if WERROR else [])]
# Cython's own code: it wraps integers on purpose, and leaves helpers and parameters unused. Its loops only call
# kernels, so it is compiled for size: a fifth of these modules less than at -O2, for 0.3 us of a call.
CYTHON_FLAGS = ["-Os", "-fwrapv", *WARNINGS, "-Wno-unused-function", "-Wno-unused-parameter"]
LDFLAGS = []
HAVE = [(f"CK_HAVE_{level.upper()}", "1") for level in LEVELS]
if DEBUG or SANITIZE:
    # A sanitizer tells lines. Where variables are takes half of its build to find.
    CFLAGS = [*CFLAGS, "-g1" if SANITIZE else "-g", "-O1"]
    CYTHON_FLAGS.remove("-Os")
else:
    CFLAGS += ["-g0", "-fno-asynchronous-unwind-tables"]  # nothing unwinds through C without debug information
    LDFLAGS.append("-Wl,-s" if platform.system() == "Linux" else "-Wl,-dead_strip")
if DEBUG:
    HAVE.append(("CK_DEBUG", "1"))
if EMULATE:
    HAVE.append(("CK_EMULATED_AVX512", "1"))
if SANITIZE:
    CFLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
    LDFLAGS.append(f"-fsanitize={SANITIZE}")


def settings_file():
    """A file that is newer than every object built with other switches; returns its path and whether it is new.

    make-like staleness checks see times and not flags: without it a debug build would take the objects of the last one.
    """
    import Cython

    file = ROOT / "build" / "settings.txt"
    text = f"{os.environ.get('CC')} {Cython.__version__} {CFLAGS} {WARNINGS} {CYTHON_FLAGS} {LDFLAGS} {HAVE}\n"
    if file.exists() and file.read_text() == text:
        return file, False
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file, True


SETTINGS, NEW_SETTINGS = settings_file()
# Its own name too must not meet that of another package: Cython enters it into sys.modules.
SHARED = "convkit.kernels._cython_convkit"
NAMES_A_FILE = re.compile(r'^\s*(?:#\s*include|cdef extern from) "([\w./]+)"|'
                          r'^from convkit\.kernels\.(\w+) cimport', re.M)


def included(file):
    """The files under csrc and the .pxd files that a C or Cython file names, and those that they name."""
    found, new = set(), {file}
    while new:
        found |= new
        named = [NAMES_A_FILE.findall(path.read_text()) for path in new]
        new = {ROOT / "csrc" / header if header else ROOT / "convkit" / "kernels" / f"{module}.pxd"
               for names in named for header, module in names}
        new = {path for path in new if path.exists()} - found
    return found


def paths(files):
    """Sorted, relative to this file, and with the switches, on which everything depends."""
    return sorted(str(file.relative_to(ROOT)) for file in {SETTINGS, *files})


def sources(pattern):
    """C files under csrc that match, as paths relative to this file."""
    return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").glob(pattern))


def libraries():
    """One static library per kernel file and level, from the same sources, and one for the rest."""
    kernels = sources("*/*.kernel.c")
    common = [s for s in sources("*/*.c") if s not in kernels and not s.endswith("threads.c")]
    libs = [("ck_common", library(common, HAVE, []))]
    for level, (macro, flags) in LEVELS.items():
        macros = [("CK_ISA", level), *HAVE, *([(macro, "1")] if macro else [])]
        for file in kernels:
            family = Path(file).name.split(".")[0]
            if level == "avx512" and family in NO_AVX512:
                continue
            more = ["-fno-tree-vectorize"] if family in NO_OTHER_VECTORS else []
            libs.append((f"ck_{family}_{level}", library([file], macros, [*flags, *more])))
    return libs


def library(files, macros, flags):
    needs = {path for file in files for path in included(ROOT / file)}
    return {"sources": files, "macros": macros, "include_dirs": ["csrc"], "cflags": [*CFLAGS, *WARNINGS, *flags],
            "obj_deps": {"": paths({*needs, *([ROOT / EMULATED] if EMULATED in flags else [])})}}


def extensions(libs):
    """One module per file in convkit/kernels; the thread pool is linked into `runtime` alone, which shares it, and only
    `operands` knows NumPy's C interface.
    """
    import numpy

    modules = []
    for pyx in sorted((ROOT / "convkit" / "kernels").glob("*.pyx")):
        own = ["csrc/base/threads.c"] if pyx.stem == "runtime" else []
        headers = ["csrc", numpy.get_include()] if pyx.stem == "operands" else ["csrc"]
        needs = included(pyx)
        linked = {file for path in needs if path.suffix == ".h" for file in path.parent.iterdir()}  # its families
        modules.append(Extension(
            f"convkit.kernels.{pyx.stem}", [str(pyx.relative_to(ROOT)), *own],
            include_dirs=headers, libraries=libs, define_macros=HAVE,
            extra_compile_args=[*CFLAGS, *CYTHON_FLAGS], extra_link_args=[*LDFLAGS, "-pthread"],
            depends=paths(needs | linked)))
    # What Cython needs for memoryviews, once: in every module it was a quarter of the wheel. cythonize() writes the C.
    modules.append(Extension(SHARED, [f"{SHARED.replace('.', '/')}.c"], extra_compile_args=[*CFLAGS, *CYTHON_FLAGS],
                             extra_link_args=LDFLAGS))
    return modules


def without_kernels(command, why):
    """Go on without kernels after ``why``, unless they were asked for.

    All kernels or none: a package with half of them would be a third kind to test.
    """
    if REQUIRE_NATIVE or "build_ext" in sys.argv:
        raise why
    command.warn(f"the C kernels were not built, convkit will run on its NumPy twins: {why}")
    command.distribution.ext_modules = []
    for module in Path(command.get_finalized_command("build").build_lib).glob("convkit/kernels/*.so"):
        module.unlink()


class BuildLibraries(build_clib):
    """The kernel libraries, on every CPU; objects are named by source path, so each library has its own folder."""

    def run(self):
        try:
            super().run()
        except Exception as exc:  # noqa: BLE001 - distutils raises many types for "no compiler"
            without_kernels(self, exc)

    def build_libraries(self, libraries):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.build_one, libraries))

    def build_one(self, library):
        command = copy(self)
        command.build_temp = os.path.join(self.build_temp, library[0])
        super(BuildLibraries, command).build_libraries([library])


class SmallWheel(bdist_wheel):
    """A wheel as small as its compression can be, which has another level by default: 6 KB."""

    def run(self):
        super().run()
        wheel = Path(self.distribution.dist_files[-1][2])
        with zipfile.ZipFile(wheel) as whole:
            files = [(info, whole.read(info)) for info in whole.infolist()]
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as whole:
            for info, data in files:
                whole.writestr(info, data, compresslevel=9)


class BuildExtensions(build_ext):
    """Translate with Cython when a build starts, and compile the kernel libraries first, whoever asked."""

    def finalize_options(self):
        from Cython.Build import cythonize
        from Cython.Compiler import Options

        Options.docstrings = False  # of modules that no user calls: 14 KB of the wheel
        self.distribution.ext_modules = cythonize(
            self.distribution.ext_modules, build_dir="build/cython", force=NEW_SETTINGS,
            shared_utility_qualified_name=SHARED,
            compiler_directives={  # plain built-in functions, and nothing to pickle: 46 KB of the wheel
                "language_level": 3, "binding": False, "auto_pickle": False, "cdivision": True,
                "freethreading_compatible": True, "boundscheck": DEBUG, "wraparound": DEBUG,
                "initializedcheck": DEBUG, "nonecheck": DEBUG})
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        self.run_command("build_clib")
        try:
            if self.distribution.ext_modules:
                super().run()
        except Exception as exc:  # noqa: BLE001 - likewise
            without_kernels(self, exc)
        self.extensions = self.distribution.ext_modules


LIBRARIES = libraries()
setup(libraries=LIBRARIES, ext_modules=extensions([name for name, _ in LIBRARIES]),
      cmdclass={"bdist_wheel": SmallWheel, "build_clib": BuildLibraries, "build_ext": BuildExtensions})
