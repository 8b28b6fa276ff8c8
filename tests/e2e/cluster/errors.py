"""What can go wrong with a cluster for tests."""


class ClusterError(Exception):
    """A cluster can't be had, or does not do what it is told; the message says why and what to do."""
