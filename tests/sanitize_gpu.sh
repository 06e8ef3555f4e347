#!/bin/sh
# compute-sanitizer over the CUDA kernels at tiny shapes, on the GPU of this machine.
#   sh tests/sanitize_gpu.sh [BUILD_DIR] [memcheck|racecheck|initcheck]...
# Default: build/cuda, all three tools, each at most 90 s.
set -eu
cd "$(dirname "$0")/.."
case "${1:-}" in -h | --help) sed -n '2,4s/^# \{0,1\}//p' tests/sanitize_gpu.sh; exit 0 ;; esac

build=${1:-build/cuda}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- memcheck racecheck initcheck
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
export MAMBAD_TEST_DEVICE=cuda MAMBAD_REQUIRE_GPU=1

# check TOOL TEST FILTER: one test program, whose failures count too.
check() {
  started=$(date +%s)
  timeout 90 "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 20 \
    "$build/bin/$2" --gtest_brief=1 --gtest_filter="$3" || { echo "$1 $2: failed ($?)"; failed=1; }
  echo "== $1 $2 $3: $(($(date +%s) - started)) s"
}

failed=0
for tool in "$@"; do
  layers='*biases:*falcon:*n32k2:*rowstackk1'
  [ "$tool" != memcheck ] || layers="$layers:*groups"
  [ "$tool" != memcheck ] || layers="$layers:*Long*slabs"
  if [ "$tool" = racecheck ]; then
    # A long prompt's scan has turns, whose flags racecheck takes for hazards. A stack takes half a minute.
    layers="$layers:-*Long*:*AStack*"
    check racecheck mamba_layer_test '*AStack*biases'
    check racecheck mamba_layer_test '*AStack*rowstackk1'
  fi
  check "$tool" mamba_layer_test "$layers"
  # Their memory is pinned on the host, which initcheck does not watch.
  [ "$tool" = initcheck ] || check "$tool" gpu_ops_test '*'
done
exit "$failed"
