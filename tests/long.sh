#!/usr/bin/env bash
# What takes too long for .ci/run: `tests/long.sh [sanitize|threads|fuzz|arm64|avx512]...` (all of them by default), in an
# environment that has convkit's [dev] extra. SECONDS_OF_FUZZ sets the length of the fuzzing (default 3600).
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

copy() { # a copy of the sources, so that another build does not replace the developer's
    mkdir "$work/$1"
    tar --exclude=./.git --exclude=./build --exclude=./.venv --exclude='*.so' -cf - . | tar -C "$work/$1" -xf -
    cd "$work/$1"
    export PYTHONPATH=$PWD
}

build() { CONVKIT_REQUIRE_NATIVE=1 CONVKIT_SANITIZE=$1 python setup.py -q build_ext --inplace; }

# Addresses and undefined behaviour, over the kernel tests and a short fuzz, without AVX-512 (setup.py says why): about
# half an hour of a core. Python itself leaks at exit by design.
sanitize() {
    copy address
    build address,undefined
    export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
    # what a sanitizer says goes past pytest, whose capture would die with the process
    python -m pytest -q --capture=sys -p no:cacheprovider tests -k "kernels or fuzz or arrays or bits"
    python tests/fuzz.py --seconds 300 --memory 0 # shadow memory takes terabytes of addresses
}

# Data races in the pool.
threads() {
    gcc -std=gnu11 -O1 -g -fsanitize=thread -Wall -Wextra -Werror -Icsrc -o "$work/race" tests/pool_race.c \
        csrc/base/threads.c -pthread
    TSAN_OPTIONS=halt_on_error=1 "$work/race"
}

fuzz() { python tests/fuzz.py --seconds "${SECONDS_OF_FUZZ:-3600}" --seed "$RANDOM" --keep-going; }

# The same C for arm64, portable and NEON, under an emulator.
arm64() {
    local cc="aarch64-linux-gnu-gcc -std=gnu11 -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror -Icsrc
              -DCK_HAVE_PORTABLE=1 -DCK_HAVE_NEON=1" objects=()
    for file in csrc/*/*.kernel.c; do
        for level in portable neon; do
            objects+=("$work/$(basename "$file" .c).$level.o")
            $cc -DCK_ISA=$level -DCK_"${level^^}"=1 -c "$file" -o "${objects[-1]}"
        done
    done
    $cc -static -o "$work/selfcheck" tests/selfcheck.c $(ls csrc/*/*.c | grep -v kernel.c) "${objects[@]}" -lm -pthread
    qemu-aarch64 "$work/selfcheck"
}

# The AVX-512 level in AVX2 instructions, where the CPU has no others.
avx512() {
    if python -c "import sys; from convkit.kernels import native; sys.exit('avx512' not in native.ISA_LEVELS)"; then
        echo "this CPU has AVX-512 itself"
        return
    fi
    copy avx512
    CONVKIT_REQUIRE_NATIVE=1 CONVKIT_EMULATE=avx512 python setup.py -q build_ext --inplace
    CONVKIT_ISA=avx512 python -m pytest -q -p no:cacheprovider tests
}

for check in "${@:-sanitize threads fuzz arm64 avx512}"; do
    for one in $check; do
        echo "=== $one"
        (trap - EXIT; "$one")
    done
done
