"""The API server as a process of its own, for tests that kill its clients and for benchmarks.

Prints one JSON line, ``{"url": …, "pid": …, "ca": <PEM or null>}``, when it serves; ends by SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import uvloop

from hatchet_operator_dev.apiserver.access import make_loopback_certificate, write_kubeconfig
from hatchet_operator_dev.apiserver.server import ApiServer


def main() -> None:
    arguments = _parse_arguments()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hatchet_operator_dev.apiserver", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument("--crds", type=Path, action="append", default=[], help="folder of CRD files to load first")
    parser.add_argument("--ready-file", type=Path, help="receives the same JSON line")
    parser.add_argument("--token", help="bearer token that clients must present (kubectl sends one over TLS only)")
    parser.add_argument("--tls", action="store_true", help="serve https with a certificate made at start")
    parser.add_argument("--kubeconfig", type=Path, help="write a kubeconfig for this server here")
    parser.add_argument("--history-size", type=int, default=10_000, help="changes kept per resource for watches")
    parser.add_argument("--bookmark-seconds", type=float, default=10.0)
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = ApiServer(
        token=arguments.token, history_size=arguments.history_size, bookmark_seconds=arguments.bookmark_seconds
    )
    for folder in arguments.crds:
        server.load_definitions(folder)
    certificate = make_loopback_certificate() if arguments.tls else None
    url = await server.start(arguments.host, arguments.port, certificate.context if certificate else None)
    ca_pem = certificate.ca_pem if certificate else None
    if arguments.kubeconfig:
        write_kubeconfig(arguments.kubeconfig, server=url, token=arguments.token, ca_pem=ca_pem)
    line = json.dumps({"url": url, "pid": os.getpid(), "ca": ca_pem.decode() if ca_pem else None})
    if arguments.ready_file:
        # Renamed into place: a reader that polls for the file never sees half of it.
        partial = arguments.ready_file.with_suffix(".partial")
        partial.write_text(line)
        partial.rename(arguments.ready_file)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    main()
