"""What has to happen, as pure functions: everything they depend on is passed in as a value, including the time.

A run
    observed         what a decision about a run may look at, and what it may ask for
    run_rules        how it proceeds: the order of the rules is the policy
    run_waits        what its status says while it waits
    run_statuses     what its status says once it is over, or being cancelled
    step_rules       how each of its steps proceeds
    step_states      what becomes of a step that ended, was lost, or is tried again
    graph            the steps of its workflow, with a person's overrides
    given_json, run_input, inputs, outputs     what it is given, and whether what a step returned can be kept
    retry, losses    what follows a failed attempt, and a worker's death
    last_step        the on-failure step
    results          what a client that awaits it gets
    deduplication, idempotency     one run of a kind: as long as it is kept, or for some time
    recording        whether a child has an object from the start, or with its result
    acts             what people do to it: cancel, retry, replay, suspend, resume
    suspension, pausing, replays   how it is suspended, paused, run again

Who goes next, and where
    turns, concurrency, rate_limits, step_limits, sticking   priorities, groups, limits, sticky runs
    placing          which worker gets an attempt
    waiting, waiting_line          why an attempt waits, and in which order runs with pods of their own do

Workers and pods
    rejoining, claims, held_runs   after a start: who is awaited, what they may keep, which runs wait for them
    deaths           whether a worker's container has ended
    quotas                         when a quota may have room for a pod again
    scaling, pooling, run_pods     how many pods a pool needs, what they look like, the pods of single runs
    protection                     which of them are not to lose their node

Several operators
    shards           which namespaces go together, and which operator leads them

Triggers and clients
    crons, event_matching, webhooks, expressions   what is due, what an event starts, signatures, CEL
    expression_costs                               what CEL may take at most
    step_events, run_filter        what clients that listen or search are told
    payloads         who owns a stored payload
    tracing          which spans a change of a run ends, and their ids

Statuses
    conditions, pool_status, workflow_status, webhook_status, actions, certificates
"""
