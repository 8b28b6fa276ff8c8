"""What a step may put into its stream."""

MAX_PIECE_BYTES = 64 * 1024


def piece_of_stream(data: object) -> bytes:
    """Return a chunk of a step's stream as it is sent, after refusing an invalid one.

    Raises:
        TypeError, ValueError: It is not text, or too long.
    """
    if not isinstance(data, str | bytes):
        raise TypeError(f"put_stream: data is {data!r} (expected a str, or bytes that are UTF-8)")
    try:
        piece = data.encode() if isinstance(data, str) else data
        piece.decode()
    except UnicodeError:
        raise ValueError("put_stream: data is no text (expected UTF-8: use base64 for other bytes)") from None
    if len(piece) > MAX_PIECE_BYTES:
        raise ValueError(
            f"put_stream: data is {len(piece)} bytes (expected at most {MAX_PIECE_BYTES}; put it in pieces)"
        )
    return piece
