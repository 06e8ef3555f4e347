#!/usr/bin/env python3
"""Streams the continuation of a prompt, then asks a session to go on.

    sh client/examples/python_stubs.sh build/python
    PYTHONPATH=build/python python3 client/examples/generate.py 127.0.0.1:50051 "Once upon a time"

Needs grpcio and protobuf (Debian: python3-grpcio python3-protobuf).
"""
import sys

import grpc
from google.rpc import error_details_pb2, status_pb2

from mambad.v1 import common_pb2, generation_pb2, generation_pb2_grpc, session_pb2, session_pb2_grpc


def reason_of(error):
    """The server's reason, e.g. SESSION_BUSY, from the details of a grpc.RpcError."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason
    return ""


def stream(generation, prompt, session=""):
    """Prints an answer as it comes; returns its usage."""
    request = generation_pb2.GenerateRequest(
        session=session,
        prompt=common_pb2.Prompt(text=prompt),
        sampling=generation_pb2.SamplingParams(temperature=0.7, seed=7),
        stop=generation_pb2.StopConditions(max_output_tokens=40),
    )
    usage = None
    for event in generation.StreamGenerate(request, timeout=60):
        kind = event.WhichOneof("event")
        if kind == "delta":
            print(event.delta.text, end="", flush=True)
        elif kind == "finished":
            usage = event.finished.usage
    print()
    return usage


def main(address, prompt):
    with grpc.insecure_channel(address) as channel:
        generation = generation_pb2_grpc.GenerationServiceStub(channel)
        sessions = session_pb2_grpc.SessionServiceStub(channel)
        stream(generation, prompt)

        session = sessions.CreateSession(session_pb2.CreateSessionRequest())
        try:
            for words in (prompt, " And then"):
                usage = stream(generation, words, session.name)
                print(f"[sent {usage.input_tokens} tokens, position {usage.session_position}]")
        finally:
            sessions.DeleteSession(session_pb2.DeleteSessionRequest(name=session.name))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: generate.py HOST:PORT PROMPT")
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        sys.exit(f"generate.py: {error.details()} ({error.code().name}: {reason_of(error)})")
