"""Which cluster and namespace a command is about, and how an error ends it: one line on stderr, and an exit code."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchet_operator import terminal
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import OperatorError, words_for_people

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class CliError(OperatorError):
    """A command can't be carried out.

    Attributes:
        exit_code: The process's; 2: the command line makes no sense.
    """

    def __init__(self, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a command applies, as given by its options.

    Attributes:
        namespace: None: the kubeconfig's.
        context: A context of the kubeconfig; None: its current one.
        kubeconfig: None: $KUBECONFIG, or where kubectl looks.
    """

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A reachable API server, and the namespace of the command."""

    api: Api
    namespace: str


@asynccontextmanager
async def reach(place: Place) -> AsyncIterator[Cluster]:
    """Connect as the user that the kubeconfig names.

    Raises:
        ConfigurationError: There is no such kubeconfig or context.
    """
    endpoint = find_endpoint(place.kubeconfig, place.context)
    async with Api(endpoint, user_agent="kubectl-hatchet", may_write=always) as api:
        yield Cluster(api=api, namespace=place.namespace or endpoint.namespace)


def carry_out(work: Coroutine[Any, Any, int | None]) -> int:
    """Run a command; return the exit code of the process."""
    try:
        return asyncio.run(work) or 0
    except CliError as error:
        sys.stderr.write(f"error: {terminal.lines(str(error))}\n")
        return error.exit_code
    except OperatorError as error:
        sys.stderr.write(f"error: {terminal.lines(words_for_people(error))}\n")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
