"""What a command writes arrives, however narrow the locale is."""

import json
import subprocess
import sys

import pytest

WRITES = """
import json, sys
from hatchet_operator.standard_streams import escape_what_streams_cannot_write
escape_what_streams_cannot_write()
sys.stdout.write(json.dumps({"a": "h\\xe4 \\u2713 \\U0001f600"}, ensure_ascii=False))
"""


@pytest.mark.parametrize(
    ("encoding", "want"),
    [
        ("ascii", b'{"a": "h\\u00e4 \\u2713 \\ud83d\\ude00"}'),
        ("latin-1", b'{"a": "h\xe4 \\u2713 \\ud83d\\ude00"}'),
        ("utf-8", '{"a": "hä ✓ 😀"}'.encode()),
    ],
)
def test_what_an_encoding_lacks_is_written_as_in_json(encoding: str, want: bytes) -> None:
    done = subprocess.run([sys.executable, "-c", WRITES], capture_output=True, env={"PYTHONIOENCODING": encoding})
    assert (done.stdout, done.stderr) == (want, b"")
    assert json.loads(done.stdout.decode(encoding)) == {"a": "hä ✓ 😀"}
