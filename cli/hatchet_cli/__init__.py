"""``kubectl hatchet``: start, find, understand and change runs, with the user's own kubeconfig and rights.

app.py       the command line: options, and which function gets them
arguments.py what is typed, as values
commands.py  what each command does, from options to an exit code
place.py     which cluster and namespace, and how an error ends a command
reading.py   runs, families, workflows and pools, from the API server
acts.py      what starts runs, and what suspends workflows; acts on runs are the operator's `run_acts`
listing.py   which runs a list has, in which order, and its columns; pure
why.py       why a run waits or failed, from the leaves that caused it; pure
pace.py      where the time of a tree went; pure
pages.py     one run as a page; pure
tree.py      runs as a tree; pure
drawing.py   the tree as lines; pure
watching.py  a tree as it grows
top.py       pools, live
screen.py    what is on the terminal
output.py    objects as JSON, YAML or names

`hatchet-operator dev` draws its tree with the same `tree`, `drawing` and `screen`.
"""
