"""How large things may be. A WorkflowRun must stay well below etcd's 1.5 MiB, and a fan-out multiplies everything."""

MAX_INPUT_BYTES = 256 * 1024
MAX_OUTPUT_BYTES = 256 * 1024
MAX_ERROR_BYTES = 16 * 1024
MAX_OBJECT_BYTES = 1024 * 1024
MAX_BULK_ITEMS = 1000
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""What gRPC clients and servers take by default, in one message."""

NO_STORE = "configure one (payloads.store of the chart, hatchet-operator dev --payloads DIR), see docs/payloads.md"
_OR_ELSE = "have the operator keep it in a payload store (docs/payloads.md), or keep it elsewhere yourself and"


def size_problem(size: int, what: str, *, storable: bool = False) -> str | None:
    """Say that an input, or metadata, is too large to be kept with its run, or None.

    Args:
        size: Its bytes as JSON without white space, or as the text that was sent.
        what: How the message calls it.
        storable: Whether a payload store would take it.
    """
    if size <= MAX_INPUT_BYTES:
        return None
    return (
        f"{what} has {size} bytes of JSON; at most {MAX_INPUT_BYTES} ({MAX_INPUT_BYTES // 1024} KiB) are taken: "
        f"{_OR_ELSE if storable else 'store large data elsewhere and'} pass where it is"
    )


def output_size_problem(size: int, step: str) -> str | None:
    """Say that an output is too large to be kept with its run, or None; ``step``: how the message calls its step."""
    if size <= MAX_OUTPUT_BYTES:
        return None
    return (
        f"{step} returned {size} bytes of JSON; at most {MAX_OUTPUT_BYTES} bytes ({MAX_OUTPUT_BYTES // 1024} KiB) are "
        f"kept: {_OR_ELSE} return where it is"
    )


def cut_error(text: str) -> str:
    """Cut an error to 16 KiB of UTF-8, keeping its end too: that is where a traceback says what went wrong."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_ERROR_BYTES:
        return data.decode("utf-8")
    mark = f"\n… {len(data) - MAX_ERROR_BYTES} bytes cut …\n"
    half = (MAX_ERROR_BYTES - len(mark.encode())) // 2
    return data[:half].decode("utf-8", "ignore") + mark + data[-half:].decode("utf-8", "ignore")
