"""What a program of Hatchet's SDK uses and this one lacks is named, with the page to read."""

from typing import Any

import pytest

import hatchet_sdk
from hatchet_sdk import Hatchet

hatchet: Any = Hatchet()


def test_a_name_that_the_package_lacks() -> None:
    with pytest.raises(ImportError, match=r"has no hatchet_sdk\.StickyStrategy \(give each.*docs/sdk\.md"):
        exec("from hatchet_sdk import StickyStrategy")
    assert not hasattr(hatchet_sdk, "anything_else")


@pytest.mark.parametrize("name", ["event", "rest", "client"])
def test_an_attribute_that_hatchet_lacks(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"has no hatchet\.{name} \(.*docs/sdk\.md"):
        getattr(hatchet, name)


def test_arguments_that_a_decorator_lacks_are_named_all_at_once() -> None:
    with pytest.raises(TypeError, match=r"does not take on_crons= \(.*CronJob\), sticky= \(.*docs/sdk\.md"):
        hatchet.workflow(on_crons=["* * * * *"], sticky="SOFT")
