"""The page: what runs, waits and failed, in a browser, with the rights of whoever looks.

    browser  <──  server.py     on loopback, for one person; or in a cluster, for many. guard.py keeps others out
                    │
                  signing_in.py who asks, in a cluster: sessions.py knows browsers, viewers.py people by their tokens
                    │
                  handlers.py   one function per request; reads and changes with the viewer's rights
                    │           streaming.py sends what goes on
                  feed.py       one list and one watch per kind and namespace, for all tabs of a viewer
                    │
                  rights.py     what the viewer may do, asked again and again: it may change
                  rows.py       what the page needs of an object, as small as it gets. Pure.

command.py and options.py are the commands. The page itself is written in TypeScript (`dashboard/` at the top of the
repository); `static/` is what that builds.
"""
