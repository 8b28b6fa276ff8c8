"""Workers as they come and go: registrations, streams, silence, deaths.

registry       this room's entry point: workers register, and what is said about them is passed on from here
registrations  where a registration is kept, so that the next operator knows it
workers        the workers that are known, and the Pods of pools
streams        what workers say, and what the end of a stream means
claims         which attempts they claim to have when they connect
connections    their streams, opened and closed
deaths         silence, Pods and containers that ended, and what is lost with them
rejoin         after a start: which worker may still have what
handover       what the last leader said about that
offers         which workflows connected workers offer
"""
