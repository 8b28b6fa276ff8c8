"""Inputs and outputs in a store instead of in their runs: stored for clients that can't reach it, removed with runs.

texts      stored and read for clients; what a run refers to
keys       a key for each namespace, derived from the operator's
removal    what no run refers to is removed, even if its deletion was missed

Runs contain references, which are JSON like any output: code that decides about runs needs to know nothing of this.
"""
