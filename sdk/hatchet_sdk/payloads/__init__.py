"""Inputs and outputs that are too large for a run's object: in a store, under their digest.

reference   what a run has instead of a payload
store       puts, gets, lists and removes objects; the only module that knows the storage library
sealing     encryption, if a key is given

Used by both sides, each with its own credentials: the SDK in a worker, and the operator for clients that can't.
"""
