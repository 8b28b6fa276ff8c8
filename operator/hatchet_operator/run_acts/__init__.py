"""`hatchet-operator cancel | retry | replay | suspend | resume RUN`: what people do to runs, with their own rights.

acts     reads a run, decides (`decisions.acts`), patches
command  from the options to an exit code
"""
