"""Translates between protobuf messages and our own types, both ways. No effects.

attempts     what a worker gets to execute or to stop, and what it reports
workers      registrations and labels of workers
workflows    a registration becomes a definition
rate_limits  those that programs set, and those that steps need
triggers     requests for runs, and events that start some
streams      what clients listen to
"""
