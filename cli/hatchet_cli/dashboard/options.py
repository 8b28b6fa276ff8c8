"""The options of ``serve-dashboard``, which the chart's Deployment runs."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from hatchet_cli.place import Place, carry_out
from hatchet_operator import options
from hatchet_operator.errors import ConfigurationError


def origin_of(text: str) -> str:
    """Return what browsers call the origin of an address, once it is checked to be a page's own."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise typer.BadParameter(
            f'"{text}" is not the address of a whole host; expected one such as https://hatchet.example.com'
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def serve_dashboard(
    context: typer.Context,
    urls: Annotated[
        list[str],
        typer.Option(
            "--url", metavar="URL", parser=origin_of, help="Where people open it; repeatable.", show_default=False
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    api_server: Annotated[
        str | None, typer.Option(metavar="URL", help="The API server.", show_default="that of the Pod's cluster")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="CA of the API server.", show_default="where Pods have it")
    ] = None,
    session: Annotated[
        timedelta, typer.Option(metavar="DURATION", parser=options.duration_of, help="How long a sign-in lasts.")
    ] = "12h",  # type: ignore[assignment]  # typer parses defaults too
    most_viewers: Annotated[int, typer.Option(min=1, help="Maximum number of viewers at a time.")] = 50,
    most_rows: Annotated[int, typer.Option(min=1, help="Maximum number of rows held for all viewers.")] = 200_000,
    tls_cert_file: Annotated[
        Path | None,
        typer.Option(help="Certificate chain, for HTTPS; read again when it changes.", show_default="HTTP"),
    ] = None,
    tls_key_file: Annotated[Path | None, typer.Option(help="Key of the certificate.", show_default=False)] = None,
) -> None:
    """Serve the dashboard to others, each with their own token and rights.

    This is for clusters: the chart runs it if dashboard.enabled is set. Each request goes to the API server with the
    viewer's bearer token, set by a proxy in front or typed into the page. The server itself has no rights.
    """
    from hatchet_cli.dashboard.command import serve
    from hatchet_cli.dashboard.server import Serving
    from hatchet_operator.access.tls import CertificateFiles
    from hatchet_operator.cluster.kubeconfig import find_server

    certificate = None
    if tls_cert_file is not None and tls_key_file is not None:
        certificate = CertificateFiles(tls_cert_file, tls_key_file, None)
        if plain := [url for url in urls if url.startswith("http:")]:
            raise typer.BadParameter(f"with a certificate it is opened with https, not as {plain[0]}")
    elif tls_cert_file is not None or tls_key_file is not None:
        raise typer.BadParameter("--tls-cert-file and --tls-key-file go together")
    try:
        endpoint = find_server(api_server, ca_file)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    place: Place = context.obj
    serving = Serving(
        endpoint=endpoint,
        origins=frozenset(urls),
        namespace=place.namespace or "default",
        host=host,
        port=port,
        session_seconds=session.total_seconds(),
        most_viewers=most_viewers,
        most_rows=most_rows,
        certificate=certificate,
    )
    raise typer.Exit(carry_out(serve(serving)))
