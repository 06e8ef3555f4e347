#!/bin/sh
# Generates the Python modules of the API into a folder to put on PYTHONPATH:
#   sh client/examples/python_stubs.sh build/python
# Uses protoc and grpc_python_plugin (Debian: protobuf-compiler protobuf-compiler-grpc, which building mambad needs too).
set -eu
[ $# -eq 1 ] || { echo "usage: python_stubs.sh DIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
plugin=$(command -v grpc_python_plugin) || { echo "python_stubs.sh: grpc_python_plugin is not installed" >&2; exit 1; }
protoc -I proto --python_out="$out" --grpc_python_out="$out" --plugin=protoc-gen-grpc_python="$plugin" \
  mambad/v1/common.proto mambad/v1/generation.proto mambad/v1/session.proto mambad/v1/model.proto mambad/v1/server.proto \
  google/rpc/status.proto google/rpc/error_details.proto
