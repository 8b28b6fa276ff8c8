"""What a step may put into its stream."""

MAX_CHUNK_BYTES = 64 * 1024


def chunk_of_stream(data: object) -> bytes:
    """Return a chunk of a step's stream as it is sent, after refusing an invalid one.

    Raises:
        TypeError, ValueError: It is not text, or too long.
    """
    if not isinstance(data, str | bytes):
        raise TypeError(f"put_stream: data is {data!r} (expected a str, or bytes that are UTF-8)")
    try:
        chunk = data.encode() if isinstance(data, str) else data
        chunk.decode()
    except UnicodeError:
        raise ValueError("put_stream: data is not text (expected UTF-8: use base64 for other bytes)") from None
    if len(chunk) > MAX_CHUNK_BYTES:
        raise ValueError(
            f"put_stream: data is {len(chunk)} bytes (expected at most {MAX_CHUNK_BYTES}; put it in chunks)"
        )
    return chunk
