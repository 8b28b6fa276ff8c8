"""The answer to an HTTP/1.1 request, assembled from the pieces in which it arrives. No effects.

The end of a body is recognized as API servers and the proxies before them mark it: by a length, or chunks. One that
ends with its connection can't be distinguished from one that was cut off, and is refused.
"""

from dataclasses import dataclass

_END_OF_LINE, _END_OF_HEAD = b"\r\n", b"\r\n\r\n"
_LONGEST_HEAD = 65_536
_INTERIM, _WITHOUT_BODY = range(100, 200), (204, 304)


class MalformedAnswer(ValueError):
    """What was received is not an answer that we understand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        status: For example 200.
        body: As it was sent.
        retry_after: The header of that name; empty: there was none.
        keeps_connection: Whether another request may follow on the same connection.
    """

    status: int
    body: bytes
    retry_after: str
    keeps_connection: bool


class AnswerReader:
    """Reads one answer."""

    def __init__(self) -> None:
        self._received = bytearray()  # and not read yet
        self._parts: list[bytes] = []
        self._status = 0  # 0: the head is not read yet
        self._length = 0
        self._is_chunked = False
        self._retry_after = ""
        self._keeps_connection = True

    @property
    def has_begun(self) -> bool:
        return bool(self._status or self._received)

    def feed(self, piece: bytes) -> Answer | None:
        """Process what was received; None: there is more to come.

        Raises:
            MalformedAnswer: It is not HTTP, or its end can't be determined.
        """
        self._received += piece
        try:
            is_whole = self._read_head() and (self._read_chunks() if self._is_chunked else self._read_length())
        except ValueError as error:
            raise MalformedAnswer(f"no answer in HTTP/1.1: {error}") from error
        if not is_whole:
            return None
        return Answer(
            status=self._status,
            body=self._parts[0] if len(self._parts) == 1 else b"".join(self._parts),
            retry_after=self._retry_after,
            keeps_connection=self._keeps_connection and not self._received,  # leftover data was not requested
        )

    def _read_head(self) -> bool:
        while not self._status:
            end = self._received.find(_END_OF_HEAD)
            if end < 0:
                if len(self._received) > _LONGEST_HEAD:
                    raise ValueError("its head has no end")
                return False
            head = bytes(self._received[:end])
            del self._received[: end + len(_END_OF_HEAD)]
            self._take_head(head)
        return True

    def _take_head(self, head: bytes) -> None:
        first, *lines = head.split(_END_OF_LINE)
        version, _, rest = first.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError(f"it begins with {first[:40]!r}")
        status = _number(rest[:3], 10)
        if status in _INTERIM:
            return  # the answer itself comes after it
        length: int | None = None
        self._keeps_connection = version == b"HTTP/1.1"
        for line in lines:
            name, _, value = line.partition(b":")
            match name.lower():
                case b"content-length":
                    length = _number(value.strip(), 10)
                case b"transfer-encoding":
                    self._is_chunked = value.strip().lower() == b"chunked"
                case b"connection":
                    self._keeps_connection &= b"close" not in value.lower()
                case b"retry-after":
                    self._retry_after = value.strip().decode("latin-1")
        if status in _WITHOUT_BODY:
            length, self._is_chunked = 0, False
        if length is None and not self._is_chunked:
            raise ValueError("it has neither a length nor chunks")
        self._status, self._length = status, length or 0

    def _read_length(self) -> bool:
        if len(self._received) < self._length:
            return False
        self._parts.append(bytes(self._received[: self._length]))
        del self._received[: self._length]
        return True

    def _read_chunks(self) -> bool:
        received, begin = self._received, 0
        try:
            while (end := received.find(_END_OF_LINE, begin)) >= 0:
                size = _number(bytes(received[begin:end]).partition(b";")[0].strip(), 16)
                if size == 0:
                    if (last := received.find(_END_OF_HEAD, end)) < 0:  # there may be trailers in between
                        return False
                    begin = last + len(_END_OF_HEAD)
                    return True
                first = end + len(_END_OF_LINE)
                after = first + size
                if len(received) < after + len(_END_OF_LINE):
                    return False
                if not received.startswith(_END_OF_LINE, after):
                    raise ValueError("a chunk is longer than it says")
                self._parts.append(bytes(received[first:after]))
                begin = after + len(_END_OF_LINE)
            return False
        finally:
            del received[:begin]


def _number(text: bytes, base: int) -> int:
    if not text.isalnum():  # int() takes signs, spaces and underscores too
        raise ValueError(f"{text[:20]!r} is no number")
    return int(text, base)
