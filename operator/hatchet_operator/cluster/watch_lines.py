"""Events of a watch that tell nothing new, recognised by their bytes alone, in a tenth of the time.

Each write of ours comes twice, as the answer and as an event of the watch. A resourceVersion belongs to one write of
one object, so an event with the version of an answer says what the answer said.
"""

import re

_BEGINNINGS = (b'{"type":"ADDED",', b'{"type":"MODIFIED",')
"""Not a deletion: in some servers it comes with the version of the object's last write."""
_KEY = b'"resourceVersion"'
_VERSION = re.compile(_KEY + rb':"(\d+)"')


def version_in(line: bytes) -> int | None:
    """Return the version of the object that an event says was added or modified; None: parse the event to know it.

    Every object has ``metadata.resourceVersion``. So where that key is in a line once, it is the object's; where users
    have such a key too (in an input, a label, an annotation), or a text that looks like it, there is no telling. Within
    a text its quotes are escaped, and are not taken for the key.

    Args:
        line: An event as JSON, as the server sent it.
    """
    if not line.startswith(_BEGINNINGS) or line.count(_KEY) != 1:
        return None
    found = _VERSION.search(line)
    return int(found[1]) if found else None
