// Workflows written with Hatchet's TypeScript SDK, as the compiler would leave them. Run by tests/compat/test_typescript.py.
const { appendFileSync } = require('node:fs');
const { join } = require('node:path');

const { ConcurrencyLimitStrategy, Hatchet, IdempotencyCollisionError } = require('@hatchet-dev/typescript-sdk');

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

async function work() {
  const worker = await hatchet.worker('typescript', { workflows: [child, parent, onEvent, onCron, limited, same], slots: 10 });
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

({ worker: work, ask, twice: askTwice })[process.argv[2]]().catch((error) => {
  console.error(error);
  process.exit(1);
});
