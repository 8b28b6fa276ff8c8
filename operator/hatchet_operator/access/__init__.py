"""Who may call and act for whom, and how both sides authenticate each other.

identity      callers, and their bearer tokens; pools' tokens, made and read   (pure)
callers       finds a call's caller by its token, with the API server's help
senders       who may push events over HTTP: also accounts that may create runs
token_key     the key that pools' tokens are signed with
certificates  certificates and authorities, made and checked                   (pure)
tls           the certificate that the gRPC server presents
server_tls    what an HTTP server listens with
"""
