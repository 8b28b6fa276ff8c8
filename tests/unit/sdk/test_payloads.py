"""What stands for a large text, and the store that it is in."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_sdk import ClientConfig, NotConfigured, PayloadError, PayloadLost, StoreUnavailable
from hatchet_sdk._client.config import endpoint_of
from hatchet_sdk._client.json_text import MAX_BYTES, encode_object
from hatchet_sdk.payloads.reference import (
    MARK,
    MAX_PAYLOAD_BYTES,
    BadReference,
    PayloadReference,
    digest_of,
    is_owner,
    owner_of_request,
    reference_in,
)
from hatchet_sdk.payloads.sealing import Keys, key_id
from hatchet_sdk.payloads.store import PayloadStore, url_problem

OWNER = "5f1d3c1e-0000-4000-8000-000000000001"
DIGEST = hashlib.sha256(b"{}").hexdigest()
REFERENCE = PayloadReference(url=f"s3://bucket/runs/etl/{OWNER}/{DIGEST}", sha256=DIGEST, size=2)


def key_of(byte: int) -> str:
    return base64.b64encode(bytes([byte]) * 32).decode()


def said(**other: Any) -> str:
    return json.dumps({MARK: {"url": REFERENCE.url, "sha256": DIGEST, "bytes": 2} | other})


# --- References


@given(
    owner=st.from_regex("[0-9a-z][0-9a-z-]{7,62}", fullmatch=True),
    folder=st.from_regex("s3://[a-z]{3,9}(/[a-z]{1,9}){0,3}", fullmatch=True),
    size=st.integers(0, MAX_PAYLOAD_BYTES),
    key=st.none() | st.from_regex("[0-9a-f]{8}", fullmatch=True),
)
def test_a_reference_is_read_as_it_was_written(owner: str, folder: str, size: int, key: str | None) -> None:
    reference = PayloadReference(url=f"{folder}/{owner}/{DIGEST}", sha256=DIGEST, size=size, key=key)
    assert reference_in(reference.to_text()) == reference
    assert reference_in(json.dumps(json.loads(reference.to_text()), indent=1)) == reference
    assert reference.owner == owner


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="nothing"),
        pytest.param("{}", id="an empty object"),
        pytest.param(f'{{"a": "{MARK}"}}', id="one that speaks of references"),
        pytest.param(json.dumps({MARK: {}, "b": 1}), id="one with another key beside"),
        pytest.param(f"[{said()}]", id="one in a list"),
        pytest.param(said()[:-1], id="no JSON"),
        pytest.param(json.dumps({MARK: "x" * 5000}), id="a long one"),
    ],
)
def test_what_is_no_reference(text: str | None) -> None:
    assert reference_in(text) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps({MARK: "s3://bucket/key"}), id="no object"),
        pytest.param(said(sha256="abc"), id="half a digest"),
        pytest.param(said(sha256="A" * 64), id="capitals"),
        pytest.param(said(bytes=-1), id="less than nothing"),
        pytest.param(said(bytes=MAX_PAYLOAD_BYTES + 1), id="more than a payload may have"),
        pytest.param(said(bytes="2"), id="a size that is a text"),
        pytest.param(said(url=None), id="no URL"),
        pytest.param(said(key=1), id="a key that is a number"),
    ],
)
def test_what_looks_like_a_reference_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadReference, match="expected its url, sha256"):
        reference_in(text)


def test_a_text_is_known_by_its_digest_also_through_a_reference() -> None:
    assert digest_of("{}") == digest_of(REFERENCE.to_text()) == DIGEST


@pytest.mark.parametrize(
    ("name", "want"),
    [
        (OWNER, True),
        (owner_of_request("any text: ../ ü"), True),
        ("", False),
        ("..", False),
        ("a/b" * 4, False),
        ("A" * 9, False),
    ],
)
def test_which_folders_are_an_owners(name: str, want: bool) -> None:
    assert is_owner(name) is want


# --- The store


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("s3://bucket/prefix", None),
        ("gs://bucket", None),
        ("az://account/container/prefix", None),
        ("file:///folder", None),
        ("bucket/prefix", "expected one of s3://…, gs://…, az://…, file://…"),
        ("https://bucket.example/", "expected one of"),
        ("s3:///prefix", "names no bucket"),
        ("az://account", "expected az://account/container/prefix"),
        ("s3://id:secret@bucket/prefix", "credentials go into variables"),
        ("s3://bucket/prefix?key=secret", "credentials go into variables"),
        ("file://host/folder", "expected file:///folder"),
    ],
)
def test_which_urls_may_be_a_store(url: str, want: str | None) -> None:
    problem = url_problem(url)
    assert problem is None if want is None else want in (problem or "")
    assert "secret" not in (problem or "")


@pytest.mark.parametrize("keys", [None, Keys(key_of(1))], ids=["as it is", "encrypted"])
@pytest.mark.parametrize("text", ["", "{}", "ä" * 500_000], ids=["nothing", "small", "large"])
async def test_what_is_put_is_what_is_got(keys: Keys | None, text: str, tmp_path: Path) -> None:
    store = PayloadStore(f"{tmp_path.as_uri()}/a/b", keys)
    reference = await store.put(OWNER, text)
    assert await store.put(OWNER, text) == reference
    assert await store.get(reference) == text
    assert [path async for path, _ in store.objects()] == [f"{OWNER}/{reference.sha256}"]
    assert (await store.remove(OWNER), await store.remove(OWNER)) == (1, 0)
    with pytest.raises(PayloadLost, match="is no longer in the store"):
        await store.get(reference)


async def test_only_an_owners_own_folder_is_removed(tmp_path: Path) -> None:
    store = PayloadStore(tmp_path.as_uri())
    await store.put(OWNER, "{}")
    await store.put(f"{OWNER}-2", "{}")
    assert await store.remove(OWNER) == 1
    assert [path async for path, _ in store.objects()] == [f"{OWNER}-2/{DIGEST}"]


@pytest.mark.parametrize(
    "url",
    [
        f"s3://other/runs/etl/{OWNER}/{DIGEST}",
        f"s3://bucket/runs/other/{OWNER}/{DIGEST}",
        f"s3://bucket/runs/etl/../other/{OWNER}/{DIGEST}",
        f"s3://bucket/runs/etl/{OWNER}/{'0' * 64}",
        f"s3://bucket/runs/etl/{DIGEST}",
        "s3://bucket/runs/etl/",
        "",
    ],
)
def test_a_reference_leads_nowhere_but_into_the_store(url: str) -> None:
    store = PayloadStore("s3://bucket/runs/etl/", environ={})
    assert store.path_of(REFERENCE) == f"{OWNER}/{DIGEST}"
    with pytest.raises(PayloadError, match="is not in the store that is configured here"):
        store.path_of(PayloadReference(url=url, sha256=DIGEST, size=2))


@pytest.mark.parametrize("at", [0, 3, 4, 15, 16, -1], ids=["magic", "its end", "nonce", "its end too", "text", "tag"])
async def test_an_encrypted_object_that_was_changed_is_not_opened(at: int, tmp_path: Path) -> None:
    store = PayloadStore(tmp_path.as_uri(), Keys(key_of(1)))
    reference = await store.put(OWNER, "some text")
    file = tmp_path / OWNER / reference.sha256
    content = bytearray(file.read_bytes())
    assert b"some text" not in content
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(PayloadLost, match=r"was changed|was replaced"):
        await store.get(reference)


async def test_an_encrypted_object_does_not_stand_for_another_text(tmp_path: Path) -> None:
    store = PayloadStore(tmp_path.as_uri(), Keys(key_of(1)))
    one, other = await store.put(OWNER, "text 1"), await store.put(OWNER, "text 2")
    (tmp_path / OWNER / one.sha256).write_bytes((tmp_path / OWNER / other.sha256).read_bytes())
    with pytest.raises(PayloadLost, match="belongs to another text"):
        await store.get(one)


async def test_a_missing_key_is_named(tmp_path: Path) -> None:
    reference = await PayloadStore(tmp_path.as_uri(), Keys(key_of(1))).put(OWNER, "{}")
    assert reference.key == key_id(b"\1" * 32)
    with pytest.raises(PayloadError, match=f"is encrypted with key {reference.key}, and here are only: "):
        await PayloadStore(tmp_path.as_uri(), Keys(key_of(2))).get(reference)


@pytest.mark.parametrize("text", ["", "no base64!", base64.b64encode(b"short").decode(), f"{key_of(1)},"])
def test_a_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NotConfigured, match="not 32 bytes in base64"):
        Keys(text)


async def test_a_store_that_is_away_may_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.touch()
    store = PayloadStore(folder.as_uri())
    with pytest.raises(StoreUnavailable):
        await store.put(OWNER, "{}")
    with pytest.raises(StoreUnavailable):
        await store.get(PayloadReference(url=f"{folder.as_uri()}/{OWNER}/{DIGEST}", sha256=DIGEST, size=2))
    folder.unlink()
    assert await store.get(await store.put(OWNER, "{}")) == "{}"


# --- Configuration


def test_a_store_of_the_environment_is_left_out_where_its_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the image of a pool whose operator was told of a store later."""
    environ = {"HATCHET_CLIENT_HOST_PORT": "op:7070", "HATCHET_CLIENT_PAYLOADS": "s3://bucket/etl"}
    assert endpoint_of(ClientConfig(), environ).payloads == "s3://bucket/etl"
    monkeypatch.setattr("hatchet_sdk._client.config.find_spec", lambda name: None)
    assert endpoint_of(ClientConfig(), environ).payloads == "operator"
    assert endpoint_of(ClientConfig(), environ).store is None
    asked = endpoint_of(ClientConfig(payloads="s3://bucket/etl"), environ)
    assert asked.payloads == "s3://bucket/etl", "and opening it says what to install"


@pytest.mark.parametrize("value", ["0", "-1", "262145", "many", "1.5"])
def test_a_threshold_that_is_none_is_refused(value: str) -> None:
    environ = {"HATCHET_CLIENT_HOST_PORT": "op:7070", "HATCHET_CLIENT_PAYLOADS_ABOVE": value}
    with pytest.raises(NotConfigured, match="expected 1 to 262144"):
        endpoint_of(ClientConfig(), environ)


@pytest.mark.parametrize(
    ("max_bytes", "want"),
    [
        pytest.param(None, "put large data into a store of yours", id="metadata, and payloads of events"),
        pytest.param(MAX_BYTES, r"in a payload store \(docs/payloads.md\)", id="without a store"),
        pytest.param(
            3 * 2**20, r"travel through the operator; install hatchet-operator-sdk\[payloads\]", id="operator"
        ),
    ],
)
def test_what_is_too_large_says_what_to_do(max_bytes: int | None, want: str) -> None:
    with pytest.raises(ValueError, match=want):
        encode_object({"a": "x" * 4 * 2**20}, what="input", max_bytes=max_bytes)


def test_without_a_store_nothing_of_it_is_loaded() -> None:
    program = (
        "import sys; from hatchet_sdk import Hatchet, ClientConfig; "
        "c = Hatchet(config=ClientConfig(host_port='127.0.0.1:1', tls_strategy='none'))._client(); "
        "print([m for m in ('obstore', 'cryptography', 'hatchet_sdk.payloads.store') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
