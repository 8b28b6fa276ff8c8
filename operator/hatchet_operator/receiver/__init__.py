"""Events, webhooks and Hatchet's REST API over HTTP: requests in, answers in JSON out, the engine's own types inside.

server        the port, its certificate, and what clients may not do: be slow, be many, send much
pushed_events events from clients with a token
webhooks      events from senders that sign
rest          Hatchet's REST API, as far as its Python clients need it
bounds        how long clients may take, and how many may connect
requests      tokens; bodies: whole, JSON, not too large, in time
answers       results and errors as JSON
"""
