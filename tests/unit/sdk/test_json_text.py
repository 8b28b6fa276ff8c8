import dataclasses
import json
import subprocess
import sys
from collections import deque
from collections.abc import Hashable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv6Address
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NoReturn
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    Field,
    HttpUrl,
    Json,
    RootModel,
    SecretStr,
    computed_field,
    model_serializer,
)

from hatchet_sdk._client.json_text import MAX_BYTES, encode_object


class Model(BaseModel):
    size: int


@dataclasses.dataclass
class Point:
    x: int
    model: Model


class AnyModel(BaseModel, extra="allow"):
    v: Any


class Secret(BaseModel):
    word: SecretStr


class Color(Enum):
    RED = "red"
    PAIR = (1, 2)


class Raw(BaseModel):
    b: bytes


class Lines(BaseModel):
    lines: list[Raw] = []
    by: dict[str, Raw] = {}


class Attrs:
    __attrs_attrs__ = ()


def bool_of_another() -> object:
    return type("bool", (), {"__module__": "numpy"})()


async def sleep(seconds: float) -> None: ...


class Broken(dict[str, int]):
    def items(self) -> NoReturn:
        raise ValueError("not now")


def test_an_error_of_the_users_own_code_is_theirs() -> None:
    with pytest.raises(ValueError, match=r"^not now$"):
        encode_object(Broken(), what="input")


def make_loop() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["again"] = [loop]
    return loop


@pytest.mark.parametrize(
    ("value", "want"),
    [
        pytest.param({}, "{}", id="nothing"),
        pytest.param({"a": (1, None, 2.5)}, '{"a":[1,null,2.5]}', id="a tuple is a list"),
        pytest.param({"n": 2**70}, '{"n":1180591620717411303424}', id="integers of any size"),
        pytest.param({"t": "zoë 🎉"}, '{"t":"zoë 🎉"}', id="text stays readable"),
        pytest.param(MappingProxyType({"a": MappingProxyType({})}), '{"a":{}}', id="mappings that are no dicts"),
        pytest.param({"a": IPv6Address("::1")}, '{"a":"::1"}', id="an address is text, as in a model"),
        pytest.param({"a": HttpUrl("http://a.b/c")}, '{"a":"http://a.b/c"}', id="so is a URL"),
        pytest.param(Point(1, Model(size=2)), '{"x":1,"model":{"size":2}}', id="a dataclass holding a model"),
    ],
)
def test_what_has_a_json_form(value: object, want: str) -> None:
    assert encode_object(value, what="input") == want


@pytest.mark.parametrize(
    ("value", "kind", "want"),
    [
        pytest.param(
            {"t": [{"u": "\ud800"}]}, ValueError, 'input["t"][0]["u"] contains half of a surrogate pair', id="no text"
        ),
        pytest.param({"t": {"\ud800": 1}}, ValueError, 'a key of input["t"] contains half', id="a key that is no text"),
        pytest.param([1], TypeError, "input is a list (expected a mapping)", id="a list"),
        pytest.param(None, TypeError, "input is None (expected a mapping)", id="None"),
        pytest.param(Model, TypeError, "input is a ModelMetaclass (expected a mapping)", id="a class"),
        pytest.param({"a": [1, 2, 3j]}, TypeError, 'input["a"][2] is a complex, which has no', id="a complex number"),
        pytest.param({"a": {"b c": b"\xff"}}, ValueError, 'input["a"]["b c"] is bytes that are no UTF-8', id="bytes"),
        pytest.param({"a": [{(1, 2): 3}]}, TypeError, 'input["a"][0] has the key (1, 2), a tuple', id="a key inside"),
        pytest.param(
            {"a": [{1: "int", "1": "str"}]},
            ValueError,
            """input["a"][0] has the keys 1 and '1', which are one key in JSON""",
            id="a number and its text",
        ),
        pytest.param({True: 1, "true": 2}, ValueError, "input has the keys True and 'true'", id="true and its text"),
        pytest.param({None: 1, "null": 2}, ValueError, "input has the keys None and 'null'", id="None and its text"),
        pytest.param({1.0: 1, "1.0": 2}, ValueError, "input has the keys 1.0 and '1.0'", id="a float and its text"),
        pytest.param({Color.RED: 1, "red": 2}, ValueError, "one key in JSON", id="an enum and its value"),
        pytest.param({float("nan"): 1}, ValueError, "a key of input is nan", id="a key that is no number"),
        pytest.param(
            AnyModel(v={"in": {1: "int", "1": "str"}}),
            ValueError,
            """input.v["in"] has the keys 1 and '1', which are one key in JSON""",
            id="keys within a model",
        ),
        pytest.param(AnyModel(v=[float("inf")]), ValueError, "input.v[0] is inf", id="infinity within a model"),
        pytest.param({"m": AnyModel(v=3 + 4j, w=object())}, TypeError, 'input["m"], a AnyModel, has no', id="a model"),
        pytest.param({"a": [10**5000]}, ValueError, 'input["a"][0] is a number of more than 4300 digits', id="digits"),
        pytest.param({"a": {10**5000: 1}}, ValueError, 'a key of input["a"] is a number of more', id="digits of a key"),
        pytest.param(
            {"p": sleep(0)}, TypeError, "is a coroutine, which has no JSON form (await it first)", id="awaits"
        ),
        pytest.param({"p": range(3)}, TypeError, "which has no JSON form (write list(…) of it instead)", id="a range"),
        pytest.param({"p": Attrs()}, TypeError, "is an Attrs, which has no JSON form (write attrs.asdict(", id="attrs"),
        pytest.param({"p": bool_of_another()}, TypeError, '"p"] is a numpy.bool, which has', id="a name of two types"),
        pytest.param(
            {"p": Lines(lines=[Raw(b=b"a"), Raw(b=b"\xff")])}, TypeError, '["p"].lines[1].b has no', id="deep"
        ),
        pytest.param(
            {"p": Lines(by={"k": Raw(b=b"\xff")})}, TypeError, 'input["p"].by["k"].b has no JSON', id="by a key"
        ),
        pytest.param({"a": SecretStr("x")}, TypeError, 'input["a"] is a SecretStr, of which only', id="a bare secret"),
        pytest.param(Secret(word=SecretStr("x")), TypeError, "input.word is a SecretStr", id="a secret"),
        pytest.param({"p": Point(1, Model)}, TypeError, 'input["p"]["model"] is a ModelMeta', id="in a dataclass"),  # type: ignore[arg-type]
        pytest.param({"a": float("nan")}, ValueError, 'input["a"] is nan, which has no JSON form', id="not a number"),
        pytest.param({"a": [float("-inf")]}, ValueError, 'input["a"][0] is -inf', id="infinity"),
        pytest.param({(1, 2): 3}, TypeError, "input has the key (1, 2), a tuple (expected a str)", id="a key"),
        pytest.param(make_loop(), ValueError, 'input["again"][0] refers to itself', id="a loop"),
        pytest.param({"a": "x" * MAX_BYTES}, ValueError, "more than the limit of 262144 bytes", id="too large"),
    ],
)
def test_what_has_none_is_refused_by_its_path(value: object, kind: type[Exception], want: str) -> None:
    with pytest.raises(kind) as refused:
        encode_object(value, what="input")
    assert want in str(refused.value)


def test_deep_nesting_is_refused() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="nested too deeply"):
        encode_object(deep, what="input")
    while deep:  # taken apart by hand: the interpreter would recurse
        deep = deep["a"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values))
def test_text_says_what_the_value_said(value: dict[str, object]) -> None:
    assert json.loads(encode_object(value, what="input")) == value


class Level(IntEnum):
    LOW = 1


@dataclasses.dataclass
class Holder:
    v: Any


ONE_RULE = [
    pytest.param(datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05", id="a time without zone"),
    pytest.param(datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2024-01-02T03:04:05.000006Z", id="a time in UTC"),
    pytest.param(
        datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2024-01-02T00:00:00+02:00", id="a time in a zone"
    ),
    pytest.param(date(2024, 1, 2), "2024-01-02", id="a date"),
    pytest.param(time(3, 4, tzinfo=UTC), "03:04:00Z", id="a time of day"),
    pytest.param(timedelta(seconds=90), "PT1M30S", id="a duration"),
    pytest.param(timedelta(days=-1), "-P1D", id="a negative duration"),
    pytest.param(Decimal("1.10"), "1.10", id="a decimal"),
    pytest.param(UUID(int=5), "00000000-0000-0000-0000-000000000005", id="a UUID"),
    pytest.param(Color.RED, "red", id="an enum"),
    pytest.param(Color.PAIR, [1, 2], id="an enum of tuples"),
    pytest.param(Level.LOW, 1, id="an enum of numbers"),
    pytest.param(Path("a/b"), "a/b", id="a path"),
    pytest.param({3, 1, 2}, [1, 2, 3], id="a set"),
    pytest.param(frozenset({"b", "a"}), ["a", "b"], id="a frozen set"),
    pytest.param(deque([2, 1]), [2, 1], id="a deque"),
    pytest.param("zoë".encode(), "zoë", id="bytes"),
    pytest.param({UUID(int=0): 1}, {str(UUID(int=0)): 1}, id="a key"),
    pytest.param({date(2024, 1, 2): [{"x": {Decimal(1)}}]}, {"2024-01-02": [{"x": ["1"]}]}, id="all of it, nested"),
]


@pytest.mark.parametrize(("value", "want"), ONE_RULE)
def test_one_rule_for_models_mappings_and_dataclasses(value: object, want: object) -> None:
    assert json.loads(encode_object({"v": value}, what="input")) == {"v": want}
    assert json.loads(encode_object({"v": [value]}, what="input")) == {"v": [want]}
    assert json.loads(encode_object(Holder(value), what="input")) == {"v": want}
    assert json.loads(encode_object(AnyModel(v=value), what="input")) == {"v": want}
    assert json.loads(encode_object({"v": Holder([AnyModel(v={"a": value})])}, what="input")) == {
        "v": {"v": [{"v": {"a": want}}]}
    }


@given(
    st.timedeltas()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.decimals(allow_nan=False, allow_infinity=False)
)
def test_what_a_mapping_says_a_model_reads(value: Any) -> None:
    class Model(BaseModel):
        v: type(value)  # type: ignore[valid-type]

    text = encode_object({"v": value}, what="input")
    assert text == encode_object(Model(v=value), what="input")
    assert Model.model_validate_json(text).v == value


def test_a_set_has_one_order_in_every_process() -> None:
    program = (
        "from hatchet_sdk._client.json_text import encode_object\n"
        "from pydantic import BaseModel\n"
        "class Model(BaseModel):\n    v: set[str]\n"
        "words = set('the quick brown fox jumps over'.split())\n"
        "print(encode_object({'a': words, 'b': Model(v=words)}, what='input'))"
    )
    said = {
        subprocess.check_output([sys.executable, "-c", program], text=True, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    }
    assert len(said) == 1


class Alias(BaseModel):
    user_id: int = Field(alias="userId")


class Apart(BaseModel):
    sent: int = Field(serialization_alias="sentAs")
    read: int = Field(validation_alias="readAs")
    either: int = Field(validation_alias=AliasChoices("first", "second"), serialization_alias="second")
    both: int = Field(validation_alias="in", serialization_alias="out")


class ByName(BaseModel, populate_by_name=True):
    user_id: int = Field(validation_alias="userId")


class Generated(BaseModel, alias_generator=str.upper):
    user_id: int


class Computed(BaseModel):
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.a


class Strict(Computed, extra="forbid"):
    pass


class Text(BaseModel):
    parsed: Json[dict[str, int]]


class Written(BaseModel):
    a: int

    @model_serializer
    def write(self) -> dict[str, int]:
        return {"a": self.a}


@pydantic.dataclasses.dataclass
class Aliased:
    user_id: Annotated[int, Field(alias="userId")]


class Outer(BaseModel):
    inner: Annotated[Apart, Field(alias="theInner")]
    listed: list[Alias]
    named: dict[str, Strict]
    pair: tuple[Computed, Aliased]


APART = {"sent": 1, "readAs": 2, "first": 3, "in": 4}


@pytest.mark.parametrize(
    ("kind", "given", "want"),
    [
        pytest.param(Alias, {"userId": 1}, {"userId": 1}, id="an alias"),
        pytest.param(Apart, APART, {"sent": 1, "readAs": 2, "second": 3, "in": 4}, id="aliases that are set apart"),
        pytest.param(ByName, {"userId": 1}, {"user_id": 1}, id="read by name too"),
        pytest.param(Generated, {"USER_ID": 1}, {"USER_ID": 1}, id="an alias generator"),
        pytest.param(Computed, {"a": 1}, {"a": 1, "double": 2}, id="a computed field"),
        pytest.param(Strict, {"a": 1}, {"a": 1}, id="a computed field that the model refuses"),
        pytest.param(Text, {"parsed": '{"b":1}'}, {"parsed": '{"b":1}'}, id="JSON within JSON"),
        pytest.param(Written, {"a": 1}, {"a": 1}, id="a serializer of its own"),
        pytest.param(RootModel[dict[str, Alias]], {"x": {"userId": 1}}, {"x": {"userId": 1}}, id="a root model"),
        pytest.param(
            Outer,
            {"theInner": APART, "listed": [{"userId": 1}], "named": {"x": {"a": 1}}, "pair": [{"a": 1}, {"userId": 1}]},
            {
                "theInner": {"sent": 1, "readAs": 2, "second": 3, "in": 4},
                "listed": [{"userId": 1}],
                "named": {"x": {"a": 1}},
                "pair": [{"a": 1, "double": 2}, {"userId": 1}],
            },
            id="models in models",
        ),
    ],
)
def test_what_a_model_sends_the_same_model_reads(kind: type[BaseModel], given: Any, want: Any) -> None:
    model = kind.model_validate(given)
    sent = json.loads(encode_object(model, what="input"))
    assert sent == want
    assert kind.model_validate(sent) == model
    around = json.loads(encode_object({"list": [Holder(model)]}, what="input"))
    assert kind.model_validate(around["list"][0]["v"]) == model


def test_a_dataclass_of_pydantic_is_a_model() -> None:
    assert encode_object(Aliased(userId=1), what="input") == '{"userId":1}'  # type: ignore[call-arg]


@given(
    st.dictionaries(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.integers())
)
def test_no_entry_is_lost(value: dict[Hashable, int]) -> None:
    try:
        text = encode_object(value, what="input")
    except ValueError as error:
        assert "which are one key in JSON" in str(error) or "has no JSON form" in str(error)  # noqa: PT017
    else:
        assert sorted(json.loads(text).values()) == sorted(value.values())


def test_an_array_is_refused_with_what_to_write() -> None:
    class Scalar:  # as numpy's int64, which is no int
        def tolist(self) -> int:
            return 3

    with pytest.raises(
        TypeError, match=r'input\["n"\] is a Scalar, which has no JSON form \(write its \.tolist\(\) instead\)'
    ):
        encode_object({"n": Scalar()}, what="input")
