"""Makes the calls that a test asks for: ``[[path of a method, arguments], …]``; for every version of the SDK."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import functools
import json


def answers_to(start, asked: str) -> str:
    """Return, as JSON, what each method answers, or its error: its class, its status and what the server said."""
    return json.dumps([_answer_to(start, path, arguments) for path, arguments in json.loads(asked)], default=_plain)


def _answer_to(start, path: str, arguments: dict):
    try:
        answer = functools.reduce(getattr, path.split("."), start)(**arguments)
        # of `rest.aio`, whose session belongs to the loop that `rest` has in a thread
        return {"answer": start._run_coroutine(answer) if asyncio.iscoroutine(answer) else answer}  # noqa: SLF001  # of theirs
    except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the answer
        status, said = getattr(error, "status", 0), getattr(error, "body", None)
        return {"error": f"{type(error).__name__}: {error}", "status": status, "said": said}


def _plain(value):
    return value.to_dict() if hasattr(value, "to_dict") else str(value)
