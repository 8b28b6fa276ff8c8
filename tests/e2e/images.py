"""Where the cluster has the images from. ``python -m tests.e2e.images`` says which of the published SDK it needs."""

import os

_LOADED = "localhost/hatchet-{}:dev"

PUBLISHED = ("0.36.24", "0.47.1")
"""Versions of the SDK that Hatchet publishes whose workers have images: `make e2e` has images/build.sh make them."""

EARLIER_VARIABLE = "HATCHET_TEST_UPGRADE_FROM"
"""Folder with the source of an earlier version, whose images have this tag: see `upgrade`."""
EARLIER_TAG = "from"


def image_of(name: str, tag: str | None = None) -> str:
    """Name the image of the operator, or of an example's worker; ``tag``: of another version that was loaded."""
    image = os.environ.get("HATCHET_TEST_IMAGES", _LOADED).format(name)
    return image if tag is None else f"{image.rpartition(':')[0]}:{tag}"


def image_values(tag: str | None = None) -> list[str]:
    """Tell Helm where the operator's image is."""
    repository, _, tag = image_of("operator", tag).rpartition(":")
    image = {"repository": repository, "tag": tag, "pullPolicy": pull_policy()}
    return [f"--set-string=image.{name}={value}" for name, value in image.items()]


def pull_policy() -> str:
    """Loaded images are pulled from nowhere: one that is missing is said to be so at once."""
    return "IfNotPresent" if "HATCHET_TEST_IMAGES" in os.environ else "Never"


if __name__ == "__main__":
    print(*PUBLISHED)
