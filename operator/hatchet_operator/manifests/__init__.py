"""``hatchet-operator manifests``: what a program would register, as objects to keep in a repository."""
