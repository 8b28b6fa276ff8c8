"""What starts runs automatically.

crons   ticks of a workflow's crons become runs, each once
events  an event becomes a run of each workflow that wants it, once
webhooks  what senders deliver becomes events
"""
