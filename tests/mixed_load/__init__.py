"""A mixed load under trouble, and a checker that knows only what was written: `make mixed-load`.

    load ──── runs, events, cancels ───►  operator, embedded API server, worker pods   ◄─── kills, faults ──── trouble
      │                                        │ objects            │ calls of steps                         │
      └── asked for ──►  history  ◄────────────┴────────────────────┘  ◄──────────── deaths of workers ──────┘
                            │
                          rules ──► sentences about what was broken; none: every promise was kept

`program` is what the workers execute, `load` asks for runs of it, `trouble` kills and disturbs, `history` puts together
what is left behind, and `rules` are the promises, each a pure function of a history.
"""
