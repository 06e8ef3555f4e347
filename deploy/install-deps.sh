#!/bin/sh
# Installs the Debian 12 packages that mambad needs; the only list of them (quickstart.sh, tests/run.sh and the
# Dockerfile use it).
#   sh deploy/install-deps.sh [build|test]
# build (default): compiler, build tools and libraries.   test: these and the test tools.
# Does nothing, and needs no network or root, when everything is installed.
set -eu

build_tools="g++ cmake ninja-build pkg-config curl ca-certificates"
build_libraries="libabsl-dev libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler
  prometheus-cpp-dev libcpp-httplib-dev libcli11-dev libspdlog-dev nlohmann-json3-dev libutf8proc-dev
  libpcre2-dev libxxhash-dev libssl-dev zlib1g-dev"
test_tools="libgtest-dev libgmock-dev python3-grpcio python3-protobuf procps xz-utils"

case "${1:-build}" in
  build) packages="$build_tools $build_libraries" promtool= ;;
  test) packages="$build_tools $build_libraries $test_tools" promtool=yes ;;
  -h | --help) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
  *) echo "install-deps.sh: unknown mode '$1' (want build or test)" >&2; exit 2 ;;
esac

missing=
for package in $packages; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=absent
  [ "$status" = installed ] || missing="$missing $package"
done
# Only promtool is taken from the prometheus package: installing it would start a daemon on this machine.
if [ -n "$promtool" ] && command -v promtool >/dev/null 2>&1; then promtool=; fi
if [ -z "$missing" ] && [ -z "$promtool" ]; then exit 0; fi

release=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-}") || release=unknown
if ! command -v apt-get >/dev/null 2>&1; then
  echo "install-deps.sh: this is $release; mambad is built on Debian 12 (bookworm). Needed there:$missing" >&2
  exit 1
fi
if [ "$release" != "debian 12" ]; then
  echo "install-deps.sh: this is $release, not debian 12; its package versions are untested" >&2
fi

if [ "$(id -u)" -eq 0 ]; then root=
elif command -v sudo >/dev/null 2>&1; then root="sudo"
else
  echo "install-deps.sh: not root and no sudo. As root: apt-get install --no-install-recommends$missing" >&2
  exit 1
fi

log=$(mktemp)
scratch=$(mktemp -d)
trap 'rm -rf "$log" "$scratch"' EXIT

# run STEP COMMAND...: the command's output appears only when it fails.
run() {
  step=$1; shift
  "$@" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; echo "install-deps.sh: $step failed" >&2; exit 1; }
}
apt() { $root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@"; }

echo "installing $(echo "$missing" | wc -w) Debian packages:$missing"
run "apt-get update" apt update
if [ -n "$missing" ]; then
  # shellcheck disable=SC2086  # a list of names
  run "apt-get install" apt install -y --no-install-recommends $missing
fi
if [ -n "$promtool" ]; then
  cd "$scratch"
  run "download of promtool" apt-get -q download prometheus
  dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
  run "installation of promtool" $root install -m 755 usr/bin/promtool /usr/local/bin/promtool
fi
