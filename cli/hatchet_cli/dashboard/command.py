"""Runs ``dashboard`` and ``serve-dashboard``: serves the page until it is interrupted."""

import asyncio
import signal
import sys
import webbrowser

from hatchet_cli.dashboard.server import Serving, serving, serving_viewers
from hatchet_cli.place import CliError, Place, reach


async def show_dashboard(place: Place, *, port: int, opens: bool) -> None:
    """Serve the page, print its address to stdout, and open it in a browser if there is one.

    Raises:
        CliError: The port is taken.
    """
    async with reach(place) as cluster:
        try:
            async with serving(cluster.api, cluster.namespace, port=port) as address:
                sys.stdout.write(f"{address}\n")
                sys.stdout.flush()
                if opens:
                    await asyncio.to_thread(webbrowser.open, address)
                await _until_interrupted()
        except OSError as error:
            raise CliError(f"port {port} can't be used: {error.strerror}; leave --port out for a free one") from error


async def serve(wanted: Serving) -> None:
    """Serve the page to whoever has a token.

    Raises:
        CliError: The address can't be listened on.
    """
    try:
        async with serving_viewers(wanted):
            sys.stderr.write(f"serves {', '.join(sorted(wanted.origins))} on {wanted.host} port {wanted.port}\n")
            await _until_interrupted()
    except OSError as error:
        raise CliError(f"{wanted.host} port {wanted.port} can't be listened on: {error.strerror}") from error


async def _until_interrupted() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    await told.wait()
