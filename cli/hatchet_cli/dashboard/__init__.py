"""The page: what runs, waits and failed, in a browser, with the rights of the user's own kubeconfig.

    browser  <──  server.py    a port on loopback, for one person; guard.py keeps others out
                    │
                  handlers.py  one function per request; reads and changes with the user's rights
                    │
                  feed.py      one list and one watch per kind and namespace, shared by all tabs, as a stream of rows
                    │
                  rows.py      what the page needs of an object, as small as it gets. Pure.

The page itself is written in TypeScript (`dashboard/` at the top of the repository); `static/` is what that builds.
"""
