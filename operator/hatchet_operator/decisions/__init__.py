"""What has to happen, as pure functions: everything they may look at comes in as a value, the time included.

observed      what a decision about a run may look at, and what it may ask for
run_rules     how a run goes on                       step_rules  how each of its steps goes on
retry         whether and when a step is tried again  outputs     whether what it returned can be kept
results       what somebody who awaits a run is told  graph       the steps of a workflow, with a person's overrides
scheduling    which free worker gets an attempt
scaling       how many pods a pool needs              pooling     the pods of a pool; why one does not start
run_pods      the pod of a run that has its own       certificates  when one is due
"""
