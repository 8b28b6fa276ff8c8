"""What was deleted most recently."""

from collections import OrderedDict

_TOMBSTONES = 10_000


class Tombstones:
    """UIDs of the objects that were deleted most recently: a late answer must not bring one back."""

    def __init__(self) -> None:
        self._uids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, uid: str) -> bool:
        return uid in self._uids

    def add(self, uid: str) -> None:
        self._uids[uid] = None
        if len(self._uids) > _TOMBSTONES:
            self._uids.popitem(last=False)
