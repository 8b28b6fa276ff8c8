"""``hatchet-operator logs RUN``: from a run to the lines that its steps wrote, out of the logs of their pods.

command.py   from the command line to an exit code
places.py    which pods had which attempts of the runs; pure
lines.py     lines of a pod's log, and which of them are wanted; pure
reader.py    reads the logs of those pods, once or as they grow
"""
