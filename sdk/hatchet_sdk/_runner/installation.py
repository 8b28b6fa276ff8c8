"""Whether the published SDK is installed beside this one: they are one package under two names."""

from collections.abc import Callable


def conflict(version_of: Callable[[str], str] | None = None) -> str | None:
    """Say in a sentence that both are installed; None: they are not.

    Which of them is imported, and with how many files of the other, depends on which was installed last.
    """
    from importlib.metadata import PackageNotFoundError, version  # 20 ms, which an import of the SDK need not take

    version_of = version_of or version
    try:
        published, ours = version_of("hatchet-sdk"), version_of("hatchet-operator-sdk")
    except PackageNotFoundError:
        return None
    return (
        f"hatchet-sdk {published} and hatchet-operator-sdk {ours} are both installed in this environment and overwrite "
        'each other\'s package "hatchet_sdk": uninstall both, then install one of them again'
    )
