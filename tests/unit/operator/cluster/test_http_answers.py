from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.cluster.http_answers import Answer, AnswerReader, MalformedAnswer

LENGTH = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\ncontent-length: 11\r\n\r\n" + b'{"a":"\r\n"} '
CHUNKS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;x=y\r\nhello\r\nA\r\n\r\n\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
)


def answer(status: int, body: bytes = b"", *, retry_after: str = "", keeps_connection: bool = True) -> Answer:
    return Answer(status=status, body=body, retry_after=retry_after, keeps_connection=keeps_connection)


@pytest.mark.parametrize(
    ("sent", "want"),
    [
        pytest.param(LENGTH, answer(201, b'{"a":"\r\n"} '), id="a length"),
        pytest.param(CHUNKS, answer(200, b"hello\r\n\r\n world"), id="chunks, with line ends in them, and a trailer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", answer(200), id="an empty body"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
            answer(200, b"1"),
            id="an interim answer before it",
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", answer(204), id="a status that has no body"),
        pytest.param(
            b"HTTP/1.1 429 Too Many Requests\r\nRETRY-AFTER: 7\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n{}",
            answer(429, b"{}", retry_after="7", keeps_connection=False),
            id="another request is to come later, and not on this connection",
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1",
            answer(200, b"1", keeps_connection=False),
            id="a protocol whose connections end",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_is_read_in_whatever_pieces_it_comes(sent: bytes, want: Answer, size: int) -> None:
    reader = AnswerReader()
    pieces = [sent[begin : begin + size] for begin in range(0, len(sent), size)]
    assert [reader.feed(piece) for piece in pieces] == [*[None] * (len(pieces) - 1), want]


def test_what_nobody_asked_for_ends_the_connection() -> None:
    got = AnswerReader().feed(LENGTH + b"HTTP/1.1 200 OK\r\n")
    assert got == answer(201, b'{"a":"\r\n"} ', keeps_connection=False)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{}", id="an end that only the connection's end tells"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", id="an encoding"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", id="a negative chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabcd\r\n", id="a chunk too long"),
        pytest.param(b"x" * 70_000, id="a head without an end"),
    ],
)
def test_what_is_no_answer_is_refused(sent: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        AnswerReader().feed(sent)


@given(st.binary(), st.binary())
def test_any_bytes_are_an_answer_or_part_of_one_or_refused(head: bytes, rest: bytes) -> None:
    reader = AnswerReader()
    try:
        if reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + head) is None:
            reader.feed(b"\r\n\r\n" + rest)
    except MalformedAnswer:
        pass
