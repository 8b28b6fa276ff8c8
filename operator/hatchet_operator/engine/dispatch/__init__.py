"""Which worker executes what, and when: attempts wait for slots of workers.

attempt   one try of one step
worker    what executes attempts: its slots, its stream of commands
queue     attempts that wait, and which worker gets which
lanes     the lines in which they wait: one for equal needs
sidings   where attempts wait that rate limits block
shares    fair turns: trees of runs share the slots
attempts  from being wanted to the end
waiting   reports why an attempt waits
"""
