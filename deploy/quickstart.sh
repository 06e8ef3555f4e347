#!/bin/sh
# From nothing to a streaming Mamba model on Debian 12: installs the packages, builds, starts a server on the bundled
# model, streams one completion over gRPC, shows its speed and some metrics, and stops the server.
#   sh deploy/quickstart.sh [--keep] [--device cpu|cuda]
# --keep leaves the server running and prints its addresses. --device cuda builds the CUDA kernels (nvcc 13 or later must
# be on the PATH) and serves on a GPU. MAMBAD_JOBS limits the parallelism (default: all cores).
set -eu
called_from=$PWD
cd "$(dirname "$0")/.."

keep=
device=cpu
while [ $# -gt 0 ]; do
  case "$1" in
    --keep) keep=yes ;;
    --device) device=${2:-}; shift ;;
    -h | --help) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p;}' deploy/quickstart.sh; exit 0 ;;
    *) echo "deploy/quickstart.sh: unknown option '$1' (want --keep or --device)" >&2; exit 2 ;;
  esac
  [ $# -eq 0 ] || shift
done
case "$device" in
  cpu | cuda) ;;
  *) echo "deploy/quickstart.sh: unknown device '$device' (want cpu or cuda)" >&2; exit 2 ;;
esac

started=$(date +%s)
stage() { printf '\n== %4d s  %s\n' "$(($(date +%s) - started))" "$*"; }
fail() { echo "deploy/quickstart.sh: $*" >&2; exit 1; }

build=build/$device
bin=$build/bin
work=build/quickstart
mkdir -p "$work"

stage "installing packages (once)"
sh deploy/install-deps.sh build

stage "building mambad and mambactl (a few minutes the first time)"
if command -v ccache >/dev/null 2>&1; then
  export CCACHE_BASEDIR="${CCACHE_BASEDIR:-$(dirname "$PWD")}" CCACHE_NOHASHDIR=1 CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
# The build folder is that of tests/run.sh, whose choice to build the tests stays.
tests=-DMAMBAD_TESTS=OFF
[ -f "$build/build.ninja" ] && tests=
# shellcheck disable=SC2086  # empty or one flag
cmake --preset "$device" $tests >"$work/configure.log" 2>&1 || { cat "$work/configure.log" >&2; fail "configuring failed"; }
cmake --build "$build" --parallel "${MAMBAD_JOBS:-$(nproc)}" --target mambad mambactl

stage "starting the server"
: >"$work/server.out"
$bin/mambad serve --model deploy/models/mamba-tales --device "$device" --grpc-address 127.0.0.1:0 --http-address 127.0.0.1:0 \
  >"$work/server.out" 2>"$work/server.log" </dev/null &
server=$!
trap 'kill "$server" 2>/dev/null || :' EXIT INT TERM
tries=0
until ready=$(grep '^mambad ready ' "$work/server.out"); do
  kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; fail "the server did not start"; }
  tries=$((tries + 1))
  [ "$tries" -lt 600 ] || { cat "$work/server.log" >&2; fail "the server was not ready after 60 s"; }
  sleep 0.1
done
echo "$ready"
grpc=$(echo "$ready" | sed 's/.* grpc=\([^ ]*\).*/\1/')
http=$(echo "$ready" | sed 's/.* http=\([^ ]*\).*/\1/')

stage "streaming a completion"
prompt="Once upon a time there was a king who had three daughters"
printf '%s' "$prompt"
$bin/mambactl generate --server "$grpc" --prompt "$prompt" --max-tokens 120 --temperature 0.7 --seed 7 --stats \
  </dev/null 2>"$work/stats.txt" || { cat "$work/stats.txt" >&2; fail "the request failed"; }
printf '\n\n%s\n' "$(cat "$work/stats.txt")"

stage "five lines of http://$http/metrics"
curl -sSf "http://$http/metrics" >"$work/metrics.txt"
for metric in 'mambad_requests_finished_total{.*"StreamGenerate",code="OK"' mambad_generation_tokens_total \
  mambad_time_to_first_token_seconds_sum mambad_inter_token_latency_seconds_count mambad_state_slots_used; do
  grep -m 1 "^$metric" "$work/metrics.txt" || fail "$metric is not exported"
done

trap - EXIT INT TERM
client=$bin/mambactl
[ "$called_from" = "$PWD" ] || client=$PWD/$client
if [ -n "$keep" ]; then
  stage "the server keeps running (process $server; stop it with: kill $server)"
  echo "talk to it:   $client chat --server $grpc"
  echo "watch it:     curl http://$http/metrics"
  exit 0
fi
stage "stopping"
kill "$server"
wait "$server" || fail "the server ended with exit code $?"
echo "stopped cleanly; try  sh deploy/quickstart.sh --keep  and talk to it with  mambactl chat"
