"""``hatchet-operator dev``: the operator without a cluster, for one program with workflows.

command.py        from options to exit code: signals, the state directory, errors
local_cluster.py  API server, operator and node in this process
view.py           what the cluster holds now, kept fresh by watching
program.py        the file or module that starts a worker
traces.py         the collector that they go to, if there is one
worker_pool.py    the pool whose pods run it
local.py          all of that together, and how a worker from elsewhere joins it
debugging.py      lends the terminal to steps at a breakpoint; in_worker.py asks for it
one_run.py        --run: one run, drawn while it goes, its result on stdout
staying_up.py     without --run: reload, show output, say how to start runs

The tree and the terminal are `hatchet_cli`'s.
"""
