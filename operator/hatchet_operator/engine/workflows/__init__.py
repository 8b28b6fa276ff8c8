"""Workflows: registration by workers, revisions of definitions, and the graph that a run executes.

workflows    this room's entry point: what is known of each, and the graph that a run executes
registering  puts a worker's definition into effect
revisions    definitions that are kept, for as long as a run executes them
actions      which steps belong to which workflow: no two workflows of a pool share an action
statuses     conditions, and what other rooms report on a Workflow
"""
