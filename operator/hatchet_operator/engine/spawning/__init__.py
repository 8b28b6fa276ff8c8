"""Starting runs: a request becomes a WorkflowRun object, once.

spawning    entry point: a root or a child?
trigger     the request, as a value
roots       root runs: which request, purpose, value or key already has one
children    children: what may spawn, which child is meant, what to do if it exists
keys        idempotency keys: which run has one
creation    what both have in common: the workflow, the create, the read
run_object  the object of a trigger
cause       why a root was started, on its object
root_labels labels of roots, by which their trees are found
"""
