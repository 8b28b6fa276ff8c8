"""What a program of Hatchet's SDK uses and this one lacks is named, with the page to read."""

import copy
import pickle
from typing import Any

import pytest

import hatchet_sdk
from hatchet_sdk import ClientConfig, Hatchet

hatchet: Any = Hatchet()


def test_a_name_that_the_package_lacks() -> None:
    with pytest.raises(ImportError, match=r"has no hatchet_sdk\.sync_to_async \(write a.*docs/sdk\.md"):
        exec("from hatchet_sdk import sync_to_async")
    assert not hasattr(hatchet_sdk, "anything_else")


@pytest.mark.parametrize("name", ["rest", "client"])
def test_an_attribute_that_hatchet_lacks(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"has no hatchet\.{name} \(.*docs/sdk\.md"):
        getattr(hatchet, name)


def test_arguments_that_a_decorator_lacks_are_named_all_at_once() -> None:
    with pytest.raises(TypeError, match=r"does not take rate_limits= \(.*\), tenant_id= \(.*docs/sdk\.md"):
        hatchet.workflow(rate_limits=1, tenant_id="t")


def test_arguments_that_a_step_lacks() -> None:
    for decorator in (hatchet.step, hatchet.on_failure_step):
        with pytest.raises(TypeError, match=r"does not take sticky= \(.*docs/sdk\.md"):
            decorator(sticky="SOFT")


def test_arguments_that_the_configuration_lacks() -> None:
    lacking: Any = {"logger": None, "server_url": "http://x"}
    with pytest.raises(TypeError, match=r"ClientConfig\(\) does not take logger= \(.*\), server_url= \(.*docs/sdk\.md"):
        ClientConfig(token="t", **lacking)
    config = ClientConfig(token="t")
    assert copy.copy(config) == config == pickle.loads(pickle.dumps(config))
