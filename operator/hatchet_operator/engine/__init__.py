"""The operator's memory and what it does: observe, decide by `decisions`, apply. No gRPC, no kopf.

Each package is a room that may import the rooms below it, and none above:

engine         the steps of a start and of an end
wiring         makes the rooms, one function per wing, and connects what they tell each other
watches        informers of runs, pods and rate limits
memory         what is known, for every room
obstacles      why no worker takes a waiting attempt
gauges         current quantities, for Prometheus
attempt_calls  what workers report about attempts
client_calls   what clients ask about workflows and runs
counting       runs that come and end, for Prometheus
traces         spans of runs and attempts, for OpenTelemetry
pods           pods that the operator creates: for pools, and for runs with their own
workers        registrations, streams, silence, deaths; which worker has which attempts after a start
triggers       runs that nobody requests individually: crons, events
streams        what steps publish while they run, for anyone listening
payloads       inputs and outputs that are kept in a store, and when they are removed from it
spawning       a request for a run becomes its object, once
runs           one run: its record, its reconciling, its status; results
dispatch       attempts that wait for a slot, and which worker gets which
limits         the units left of each rate limit, reserved in advance where necessary
workflows      registration, revisions, the graph that a run executes
work_queue     which key is processed next
metrics        what is counted
tombstones     what was deleted most recently
signals        what rooms tell rooms above them
clock          the time of day, the time since the boot, and the event loop's time

Nothing here is the source of truth: all of it is rebuilt from the API server's objects and from what workers say.
"""
