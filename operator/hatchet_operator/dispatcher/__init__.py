"""The gRPC services that workers talk to: protobuf in and out, our own types within."""
