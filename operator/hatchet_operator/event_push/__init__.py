"""`hatchet-operator events push`: starts the runs of an event, with the rights of the user's kubeconfig.

command  options and exit codes
push     creates what the workflows of a namespace want, as the user
"""
