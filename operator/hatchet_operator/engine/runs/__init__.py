"""WorkflowRuns: what is known of each, what happens to it, and the one place that writes its status.

observer       turns what the API server says about runs into changes
records        one run: its newest object and what it has in flight
store          all runs, and the indexes by which they are looked up
changes        a change of a run, as a value; what reacts to it
reactions      which runs are reconciled because of a change
placement      where an attempt may go, and how urgent it is
reconciler     decide (`decisions.run_rules`), apply
sight          what a decision about a run may look at
definitions    the graph that a run executes
hold           holds back runs from before a start, until workers said what they have
reports        how attempts ended: kept until that is persisted, then answered
leaving        attempts that are no longer wanted leave the queue
wanted         attempts that a decision wants: made, queued, moved, taken back
recording      a status is written; a light run gets its object
status_writer  the PUT of a status, and what its refusal means
groups         concurrency groups: which runs go on, wait or are cancelled
group_statuses what a Workflow shows of them
replays        what a replay does to children before its own steps run
asked          pages of runs that programs look for, and what they do to runs
results        which clients await which run
reader         objects of finished runs, read again
lifetimes      how long finished runs are kept
expiry         when finished runs are deleted
"""
