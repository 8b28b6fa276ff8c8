"""Rate limits: the units left of each limit, reserved in advance where necessary.

buckets  what is known of each limit, who takes units, when they are replenished
ledger   what long windows have reserved, written to the API server before any of it is granted
objects  RateLimit: what people and programs set, and what its status shows
"""
