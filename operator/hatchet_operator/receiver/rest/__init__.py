"""Hatchet's REST API, as far as Hatchet's Python clients need it: requests in, answers in Hatchet's JSON out.

routes      which path leads where; paths that are not served, and why
calls       one call: whose it is, what it asks for, errors as these clients read them
runs        runs: found, listed, counted, started, cancelled, replayed
known_runs  which runs a call means, and what is known of them
schedules   runs that are to start later
crons       what the clock starts
workflows   definitions
workers     workers, and pausing them
sight       what is known of a run, gathered for the two translations
v0, v1      runs as clients before and from 1.0 on know them; without effects
models      the JSON of both
"""
