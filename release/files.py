"""Texts about a release's files, from the files themselves."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"


def digests(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, as hexadecimal digits, by name and in their order."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def checksums(found: Mapping[str, str]) -> str:
    """Return a file for ``sha256sum --check``."""
    return "".join(f"{digest}  {name}\n" for name, digest in found.items())


def provenance(found: Mapping[str, str], *, version: str, commit: str, built_at: str) -> str:
    """Return an in-toto statement about where the files come from, with SLSA's predicate.

    Args:
        found: Their digests.
        version: The release's.
        commit: What it was built from.
        built_at: When, as RFC 3339.
    """
    statement: dict[str, Any] = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in found.items()],
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": "https://hatchet-operator.dev/make-release/v1",
                "externalParameters": {"version": version},
                "resolvedDependencies": [{"uri": "git+hatchet-operator", "digest": {"gitCommit": commit}}],
            },
            "runDetails": {
                "builder": {"id": "https://hatchet-operator.dev/make-release"},
                "metadata": {"startedOn": built_at},
            },
        },
    }
    return json.dumps(statement, indent=2) + "\n"


def krew_manifest(archives: Mapping[tuple[str, str], tuple[str, str]], *, version: str, base_url: str) -> str:
    """Return the manifest by which ``kubectl krew install hatchet`` finds the plugin.

    Args:
        archives: By operating system and architecture, the archive's name and SHA-256.
        version: The release's, as in 0.1.0.
        base_url: Where the release's files are.
    """
    platforms = [
        {
            "selector": {"matchLabels": {"os": system, "arch": architecture}},
            "uri": f"{base_url.rstrip('/')}/{name}",
            "sha256": digest,
            "bin": "kubectl-hatchet",
        }
        for (system, architecture), (name, digest) in archives.items()
    ]
    manifest = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "hatchet"},
        "spec": {
            "version": f"v{version}",
            "homepage": base_url,
            "shortDescription": "Start, see, explain and retry runs of hatchet-operator",
            "description": "Draws trees of workflow runs, says why one waits or failed, and retries what failed.\n",
            "caveats": "It needs Python 3.11 or later in the PATH.\n",
            "platforms": platforms,
        },
    }
    return yaml.safe_dump(manifest, sort_keys=False)


def compiled_for_some(files: Iterable[str], pythons: Collection[str]) -> list[str]:
    """Name what was compiled for some versions of Python and not for all: it can't be imported with the others.

    Args:
        files: Paths of compiled modules, such as "orjson/orjson.cpython-311-x86_64-linux-gnu.so".
        pythons: The versions, as in "3.11".
    """
    found: dict[str, set[str]] = {}
    for file in files:
        if match := re.match(r"(.+)\.cpython-(\d+)-", file):
            found.setdefault(match[1], set()).add(match[2])
    wanted = {python.replace(".", "") for python in pythons}
    return sorted(name for name, versions in found.items() if not wanted <= versions)
