"""Build: Cython modules over C kernels, one source compiled once per instruction set level.

Switches (environment variables):
    CONVKIT_REQUIRE_NATIVE=1   a failing compiler is an error instead of an install without kernels
    CONVKIT_DEBUG=1            Cython's checks and the C assertions on
    CONVKIT_WERROR=1           warnings of our own C files are errors
    CONVKIT_SANITIZE=address,undefined   build with sanitizers
"""

import os
import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
DEBUG = os.environ.get("CONVKIT_DEBUG", "0") not in ("", "0")
WERROR = os.environ.get("CONVKIT_WERROR", "0") not in ("", "0")
REQUIRE_NATIVE = os.environ.get("CONVKIT_REQUIRE_NATIVE", "0") not in ("", "0")
SANITIZE = os.environ.get("CONVKIT_SANITIZE", "")

X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM64 = platform.machine().lower() in ("aarch64", "arm64")

# level -> (macro or None, compiler flags); the levels of this CPU family, lowest first.
LEVELS = {"portable": (None, [])}
if X86:
    LEVELS["avx2"] = ("CK_AVX2", ["-mavx2", "-mfma", "-mf16c", "-mbmi2"])
    LEVELS["avx512"] = ("CK_AVX512", [*LEVELS["avx2"][1], "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl",
                                      "-mprefer-vector-width=512"])
elif ARM64:
    LEVELS["neon"] = ("CK_NEON", [])

# No -ffast-math: NaN, infinities, signed zeros and denormals are part of the contract. -ffp-contract=off: a
# multiply-add is fused where the kernel says so and nowhere else, so bits do not depend on the compiler's mood.
CFLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-fno-semantic-interposition"]
WARNINGS = ["-Wall", "-Wextra", *(["-Werror"] if WERROR else [])]
LDFLAGS = []
HAVE = [(f"CK_HAVE_{level.upper()}", "1") for level in LEVELS]
if DEBUG:
    CFLAGS = [*CFLAGS, "-g", "-O1"]
    HAVE.append(("CK_DEBUG", "1"))
else:
    LDFLAGS.append("-Wl,-s" if platform.system() == "Linux" else "-Wl,-dead_strip")
if SANITIZE:
    CFLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g"]
    LDFLAGS = [f"-fsanitize={SANITIZE}"]

HEADERS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.[h]"))
HEADERS += sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.def"))


def sources(pattern):
    """C files under csrc that match, as paths relative to this file."""
    return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").glob(pattern))


def libraries():
    """One static library per level over the same *.kernel.c files, and one for the rest."""
    kernels = sources("*/*.kernel.c")
    common = [s for s in sources("*/*.c") if s not in kernels and not s.endswith("threads.c")]
    libs = []
    for level, (macro, flags) in LEVELS.items():
        macros = [("CK_ISA", level), *HAVE, *([(macro, "1")] if macro else [])]
        libs.append((f"ck_{level}", library(kernels, macros, flags)))
    libs.append(("ck_common", library(common, HAVE, [])))
    return libs


def library(files, macros, flags):
    return {"sources": files, "macros": macros, "include_dirs": ["csrc"], "cflags": [*CFLAGS, *WARNINGS, *flags],
            "obj_deps": {"": HEADERS}}


def extensions():
    """One module per file in convkit/kernels; the thread pool is linked into `runtime` alone, which shares it."""
    names = [f"ck_{level}" for level in LEVELS]
    modules = []
    for pyx in sorted((ROOT / "convkit" / "kernels").glob("*.pyx")):
        own = ["csrc/base/threads.c"] if pyx.stem == "runtime" else []
        modules.append(Extension(
            f"convkit.kernels.{pyx.stem}", [str(pyx.relative_to(ROOT)), *own],
            include_dirs=["csrc"], libraries=["ck_common", *names], define_macros=HAVE,
            extra_compile_args=[*CFLAGS, "-fwrapv", "-Wno-unused-function", *(["-Werror"] if WERROR else [])], extra_link_args=[*LDFLAGS, "-pthread"],
            depends=HEADERS, optional=not REQUIRE_NATIVE))
    return modules


class BuildLibraries(build_clib):
    """build_clib names objects by source path alone: each level needs a build folder of its own."""

    def build_libraries(self, libraries):
        root = self.build_temp
        for name, info in libraries:
            self.build_temp = os.path.join(root, name)
            super().build_libraries([(name, info)])
        self.build_temp = root

    def run(self):
        try:
            super().run()
        except Exception as exc:  # noqa: BLE001 - distutils raises many types for "no compiler"
            if REQUIRE_NATIVE:
                raise
            self.warn(f"the C kernels were not built, convkit will run on its NumPy twins: {exc}")
            self.distribution.ext_modules = []


class BuildExtensions(build_ext):
    """Translate with Cython when a build starts, and compile the kernel libraries first, whoever asked."""

    def finalize_options(self):
        from Cython.Build import cythonize

        checks = {"boundscheck": DEBUG, "wraparound": DEBUG, "initializedcheck": DEBUG, "nonecheck": DEBUG}
        modules = cythonize(
            self.distribution.ext_modules, build_dir="build/cython",
            compiler_directives={"language_level": 3, "cdivision": True, "freethreading_compatible": True,
                                 "embedsignature": True, **checks})
        for module in modules:
            module.optional = not REQUIRE_NATIVE
        self.distribution.ext_modules = modules
        super().finalize_options()

    def run(self):
        self.run_command("build_clib")
        if self.distribution.ext_modules:
            super().run()


setup(libraries=libraries(), ext_modules=extensions(), cmdclass={"build_clib": BuildLibraries, "build_ext": BuildExtensions})
