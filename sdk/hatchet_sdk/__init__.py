"""Write workflows as plain Python; hatchet-operator runs them on Kubernetes."""
