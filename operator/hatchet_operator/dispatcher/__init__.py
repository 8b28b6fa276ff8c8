"""The gRPC services that workers talk to: protobuf in and out, our own types within.

server  the port, the certificate, the services of each version
calls   common to all calls: finding the caller, and errors as statuses
stamps  times in messages
v0      the services that clients of all versions use
runs    finding runs and acting on them, a service of our own
v1      what clients from 1.0 on use in addition; a registration is translated into one of v0
"""
