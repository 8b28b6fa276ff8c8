"""Streams of runs: what steps publish while they run, for anyone listening. In memory only.

buffer   the latest events, bounded for each run and in total
readers  clients that listen, each at its own pace
streams  turns what steps and runs do into events for readers
"""
