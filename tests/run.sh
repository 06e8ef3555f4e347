#!/bin/sh
# Builds mambad and runs its tests.
#   sh tests/run.sh [--asan|--tsan] [--long]
# Default: the release build, every header compiled alone, every test with short counts.
# --asan: everything under AddressSanitizer and UndefinedBehaviorSanitizer.   --tsan: the kernel and engine tests
# under ThreadSanitizer (Debian's gRPC is not instrumented, so RPC code reports noise there).
# --long: the full counts (sets MAMBAD_LONG_TESTS=1). MAMBAD_JOBS limits the parallelism (default: all cores).
set -eu
cd "$(dirname "$0")/.."

preset=cpu
while [ $# -gt 0 ]; do
  case "$1" in
    --asan) preset=asan ;;
    --tsan) preset=tsan ;;
    --long) export MAMBAD_LONG_TESTS=1 ;;
    -h | --help) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p;}' tests/run.sh; exit 0 ;;
    *) echo "tests/run.sh: unknown option '$1' (want --asan, --tsan or --long)" >&2; exit 2 ;;
  esac
  shift
done

started=$(date +%s)
stage() { printf '== %4d s  %s\n' "$(($(date +%s) - started))" "$*"; }

stage "packages"
sh deploy/install-deps.sh test

jobs=${MAMBAD_JOBS:-$(nproc)}
launcher=
if command -v ccache >/dev/null 2>&1; then
  # Relative paths and no directory hash: a clone elsewhere under the same parent hits the cache too.
  export CCACHE_BASEDIR="${CCACHE_BASEDIR:-$(dirname "$PWD")}" CCACHE_NOHASHDIR=1
  launcher=ccache
fi

stage "configure ($preset)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset "$preset" -DMAMBAD_TESTS=ON -DCMAKE_CXX_COMPILER_LAUNCHER="$launcher" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }

# Under ThreadSanitizer only what its tests need is built.
if [ "$preset" = tsan ]; then targets="mambad_tests_kernels mambad_tests_engine"
elif [ "$preset" = cpu ]; then targets="all mambad_headers"
else targets=all; fi
stage "build ($jobs jobs)"
# shellcheck disable=SC2086  # a list of targets
cmake --build "build/$preset" --parallel "$jobs" --target $targets

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}"
stage "test"
# ThreadSanitizer of g++ 12 cannot map its shadow when the kernel randomizes more than 28 bits of addresses; some
# containers forbid turning that off.
fixed=
if [ "$preset" = tsan ] && setarch -R true 2>/dev/null; then fixed="setarch -R"; fi
$fixed ctest --preset "$preset" --parallel "$jobs"
stage "all tests passed"
