"""``hatchet-operator logs RUN``: finds the lines that a run's steps wrote, in the logs of their pods.

command.py   from the options to an exit code
places.py    which pods had which attempts of the runs; pure
lines.py     lines of a pod's log, and which of them are wanted; pure
reader.py    reads the logs of those pods, once or as they grow
"""
