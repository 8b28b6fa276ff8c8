"""Where the cluster has the images from."""

import os

_LOADED = "localhost/hatchet-{}:dev"


def image_of(name: str) -> str:
    """Name the image of the operator, or of an example's worker."""
    return os.environ.get("HATCHET_TEST_IMAGES", _LOADED).format(name)


def image_values() -> list[str]:
    """Tell Helm where the operator's image is."""
    repository, _, tag = image_of("operator").rpartition(":")
    image = {"repository": repository, "tag": tag, "pullPolicy": pull_policy()}
    return [f"--set-string=image.{name}={value}" for name, value in image.items()]


def pull_policy() -> str:
    """Loaded images are pulled from nowhere: one that is missing is said to be so at once."""
    return "IfNotPresent" if "HATCHET_TEST_IMAGES" in os.environ else "Never"
