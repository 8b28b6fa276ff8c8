"""An embedded, in-memory Kubernetes API server: for ``hatchet-operator dev``, for tests, and as the fast backend of
benchmarks.

Over HTTP
    server           its life, and from a request to an operation
    routing, bodies, answers         what a request names, what it asks for, how it is answered
    paging, watch_streams            lists in pages, and watches
    about, discovery, openapi        what the server says about itself
    control, faults                  what tests order, and what goes wrong then
    forms, tables, protobuf_bodies   objects as they are sent: JSON, tables for kubectl, protobuf
    access, tokens                   who may do what
    pod_logs         logs that a local node leaves in files

Objects
    operations       create, replace, patch, delete
    written, deleting, scale         what is refused, what keeps an object, its Scale
    patches          JSON patch, merge, strategic merge, apply
    metadata, selectors, events      parts of objects
    kinds, builtin, crds             which kinds there are
    store, watching  the objects and their history
    garbage          what is deleted with its owner or its namespace
    status           errors in the words of the real server

Schemas of CRDs
    schema           a schema, compiled
    shaping, checking, cel_rules     what is pruned, defaulted and refused
    structural       which schemas are refused
    field_paths, objects             what all of these share
"""

from hatchet_operator_dev.apiserver.access import LoopbackCertificate, make_loopback_certificate, write_kubeconfig
from hatchet_operator_dev.apiserver.server import ApiServer

__all__ = ["ApiServer", "LoopbackCertificate", "make_loopback_certificate", "write_kubeconfig"]
