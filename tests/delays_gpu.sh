#!/bin/sh
# Decode steps and prompts a thousand times on the GPU of this machine, in a build whose kernels stop at random where
# they wait for each other: the bits must stay what they are.
#   sh tests/delays_gpu.sh
set -eu
cd "$(dirname "$0")/.."
case "${1:-}" in -h | --help) sed -n '2,4s/^# \{0,1\}//p' tests/delays_gpu.sh; exit 0 ;; esac

cmake --preset cuda -B build/delays -DMAMBAD_TESTS=ON -DMAMBAD_RANDOM_DELAYS=ON >/dev/null
cmake --build build/delays --parallel "${MAMBAD_JOBS:-$(nproc)}" --target repeat_test mamba_layer_test
export MAMBAD_TEST_DEVICE=cuda MAMBAD_REQUIRE_GPU=1
build/delays/bin/repeat_test
build/delays/bin/mamba_layer_test --gtest_filter='*AStack*' --gtest_repeat=20
