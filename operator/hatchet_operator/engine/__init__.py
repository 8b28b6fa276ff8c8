"""The operator's memory and what it does: observe, decide by `decisions`, apply. No gRPC, no kopf.

records    what is known of runs, attempts and workers            (memory, rebuilt from the API at any time)
queue      attempts that wait for a slot, and the choice of a worker
runs       one run: observe, decide, apply; settle reports
status_writer  the PUT of a run's status, and what its refusal means  (the only writer of WorkflowRun status)
spawning   TriggerWorkflow: names, creates, finds again
results    who awaits which run
workers    registrations, streams, deaths
workflows  registration, revisions, graphs
pools      pods of WorkerPools
engine     all of these, wired together
"""
