// Workflows written with Hatchet's TypeScript SDK, as the compiler would leave them. Run by tests/compat/test_typescript.py.
const { appendFileSync } = require('node:fs');
const { join } = require('node:path');

const {
  ConcurrencyLimitStrategy,
  Hatchet,
  IdempotencyCollisionError,
  Priority,
  RateLimitDuration,
  StickyStrategy,
} = require('@hatchet-dev/typescript-sdk');

const hatchet = Hatchet.init();
const note = (file, text) => appendFileSync(join(process.env.HATCHET_TEST_DIRECTORY, file), `${text}\n`);

const child = hatchet.task({
  name: 'TsChild',
  fn: (input) => {
    note('ts-children', input.n);
    return { n: input.n * 2 };
  },
});

const parent = hatchet.task({
  name: 'TsParent',
  retries: 1,
  fn: async (input, ctx) => {
    const children = [0, 1, 2].map((n) => ctx.runChild(child, { n }, { key: `child${n}` }));
    const results = await Promise.all(children);
    if (ctx.retryCount() === 0) throw new Error('once more');
    return { results: results.map((result) => result.n), retry: ctx.retryCount() };
  },
});

const onEvent = hatchet.task({
  name: 'TsEvent',
  onEvents: ['ts:*'],
  fn: (input) => ({ got: input.text }),
});

const onCron = hatchet.workflow({ name: 'TsCron', onCrons: ['30 6 * * MON-FRI'] });
onCron.task({ name: 'work', fn: () => ({ done: true }) });

const limited = hatchet.workflow({
  name: 'TsLimited',
  concurrency: { expression: 'input.user', maxRuns: 1, limitStrategy: ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN },
});
limited.task({
  name: 'work',
  fn: async (input) => {
    note('ts-limited', `begin ${input.user}`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    note('ts-limited', `end ${input.user}`);
    return {};
  },
});

const same = hatchet.task({
  name: 'TsSame',
  idempotency: { strategy: 'ttl', expression: 'input.id', ttlMs: 300000 },
  fn: () => ({ done: true }),
});

const counted = hatchet.task({
  name: 'TsCounted',
  rateLimits: [{ staticKey: 'ts-calls', units: 2 }],
  fn: () => ({ done: true }),
});

const labelled = hatchet.task({
  name: 'TsLabelled',
  desiredWorkerLabels: { model: { value: 'large', required: true } },
  fn: async (input, ctx) => ({ labels: ctx.worker.labels() }),
});

const relabel = hatchet.task({
  name: 'TsRelabel',
  fn: async (input, ctx) => {
    await ctx.worker.upsertLabels({ model: 'large' });
    return {};
  },
});

const stuck = hatchet.workflow({ name: 'TsStuck', sticky: StickyStrategy.HARD, defaultPriority: Priority.HIGH });
const first = stuck.task({ name: 'first', fn: (input, ctx) => ({ id: ctx.worker.id() }) });
stuck.task({ name: 'second', parents: [first], fn: (input, ctx) => ({ id: ctx.worker.id() }) });

async function work() {
  await hatchet.ratelimits.upsert({ key: 'ts-calls', limit: 4, duration: RateLimitDuration.HOUR });
  const worker = await hatchet.worker('typescript', {
    workflows: [child, parent, onEvent, onCron, limited, same, counted, labelled, relabel, stuck],
    slots: 10,
    labels: { model: 'small' },
  });
  await worker.start();
}

async function askTwice() {
  const first = await (await same.runNoWait({ id: 'ada' })).getWorkflowRunId();
  try {
    await (await same.runNoWait({ id: 'ada' })).getWorkflowRunId();
  } catch (error) {
    if (!(error instanceof IdempotencyCollisionError)) throw error;
    process.stdout.write(`${JSON.stringify({ first, existing: error.existingRunExternalId })}\n`);
  }
  process.exit(0);
}

async function ask() {
  await hatchet.events.push('ts:said', { text: 'hello' });
  process.stdout.write(`${JSON.stringify(await parent.run({}))}\n`);
  process.exit(0);
}

async function askLater() {
  const made = await child.schedule(new Date(Date.now() + 2000), { n: 7 }, { priority: Priority.MEDIUM });
  const run = await child.runNoWait({ n: 8 }, { priority: Priority.LOW });
  process.stdout.write(`${JSON.stringify({ later: made.metadata.id, low: await run.getWorkflowRunId() })}\n`);
  process.exit(0);
}

({ worker: work, ask, twice: askTwice, later: askLater })[process.argv[2]]().catch((error) => {
  console.error(error);
  process.exit(1);
});
