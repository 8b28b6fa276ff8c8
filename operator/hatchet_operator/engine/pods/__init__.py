"""Pods that the operator creates.

pools         WorkerPools: how many pods each has, and their statuses
known_pools   WorkerPools as they are known, for whoever asks
pool_pods     their pods, as they come and go
pool_secrets  the Secret of each: token, address, authorities
refusals      why they can't have pods, and when the next try is due
quotas        tells when a quota that had no room may have some
run_pods      pods of runs whose workflow has ``execution: Pod``
pods_of_runs  these pods, as they come and go
"""
