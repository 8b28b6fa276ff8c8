// What runs, waits and failed in the last 24 hours; what is not well.

import { Alert, Anchor, Card, Group, SimpleGrid, Stack, Table, Text, Title } from "@mantine/core";
import { useMemo } from "react";
import { Bar, BarChart, ResponsiveContainer, Tooltip, XAxis, YAxis } from "recharts";
import { Link } from "wouter";
import { age, useNow } from "../format";
import { COLORS } from "../parts/Phase";
import { Nothing } from "../parts/Text";
import { useRows } from "../rows";
import { type Condition, PHASES, type Phase, type RunRow } from "../types";

const HOUR = 3_600_000;
const HOURS = 24;

export function Overview() {
  const { runs, workflows, pools } = useRows();
  const now = useNow();
  const hour = Math.floor(now / HOUR);
  const recent = useMemo(() => runs.filter((run) => (run.created ?? 0) > (hour - HOURS) * HOUR), [runs, hour]);
  const counts = useMemo(() => countPhases(recent), [recent]);
  const hours = useMemo(() => byHour(recent, hour), [recent, hour]);
  const perWorkflow = useMemo(() => byWorkflow(recent), [recent]);
  const troubles = [
    ...workflows.flatMap((each) => unwell(`Workflow ${each.title}`, `/workflows/${each.name}`, each.conditions)),
    ...pools.flatMap((each) => unwell(`Pool ${each.name}`, "/pools", each.conditions)),
  ];
  return (
    <Stack>
      <Title order={1} size="h3">
        The last 24 hours
      </Title>
      {troubles.map(({ who, href, words }) => (
        <Alert key={`${who} ${words}`} color="red" variant="light" title={who}>
          {words}{" "}
          <Anchor component={Link} href={href} size="sm" underline="always">
            Show
          </Anchor>
        </Alert>
      ))}
      <SimpleGrid cols={{ base: 2, sm: 5 }}>
        {PHASES.map((phase) => (
          <Card key={phase} withBorder component={Link} href={`/runs?phase=${phase}&children=1`} className="tile">
            <Text size="sm" c="dimmed">
              {phase}
            </Text>
            <Text size="xl" fw={600} c={counts[phase] ? COLORS[phase] : "dimmed"} data-testid={`count-${phase}`}>
              {counts[phase]}
            </Text>
          </Card>
        ))}
      </SimpleGrid>
      <Card withBorder>
        <Text size="sm" c="dimmed" mb="xs">
          Runs by the hour of their start
        </Text>
        <div role="img" aria-label="Runs by hour and phase">
          <ResponsiveContainer width="100%" height={160}>
            <BarChart data={hours}>
              <XAxis dataKey="hour" tickLine={false} fontSize={11} />
              <YAxis allowDecimals={false} width={40} tickLine={false} fontSize={11} />
              <Tooltip contentStyle={{ background: "var(--mantine-color-body)" }} />
              {PHASES.map((phase) => (
                <Bar
                  key={phase}
                  dataKey={phase}
                  stackId="runs"
                  fill={`var(--mantine-color-${COLORS[phase]}-6)`}
                  isAnimationActive={false}
                />
              ))}
            </BarChart>
          </ResponsiveContainer>
        </div>
      </Card>
      <Group align="flex-start" grow>
        <Card withBorder>
          <Title order={2} size="h5" mb="xs">
            Workflows
          </Title>
          {perWorkflow.length === 0 ? <Nothing>Nothing has run.</Nothing> : null}
          <Table.ScrollContainer minWidth={480} type="native" tabIndex={0}>
            <Table aria-label="Runs by workflow">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Workflow</Table.Th>
                  {PHASES.map((phase) => (
                    <Table.Th key={phase}>{phase}</Table.Th>
                  ))}
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {perWorkflow.map(({ workflow, phases }) => (
                  <Table.Tr key={workflow}>
                    <Table.Td>
                      <Anchor component={Link} href={`/workflows/${workflow}`} size="sm">
                        {workflows.find((each) => each.name === workflow)?.title ?? workflow}
                      </Anchor>
                    </Table.Td>
                    {PHASES.map((phase) => (
                      <Table.Td key={phase}>{phases[phase] || ""}</Table.Td>
                    ))}
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        </Card>
        <Card withBorder>
          <Title order={2} size="h5" mb="xs">
            Pools
          </Title>
          {pools.length === 0 ? <Nothing>No pools.</Nothing> : null}
          <Table aria-label="Pools">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Pool</Table.Th>
                <Table.Th>Running</Table.Th>
                <Table.Th>Queued</Table.Th>
                <Table.Th>Oldest</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {pools.map((pool) => (
                <Table.Tr key={pool.uid}>
                  <Table.Td>
                    <Anchor component={Link} href="/pools" size="sm">
                      {pool.name}
                    </Anchor>
                  </Table.Td>
                  <Table.Td>
                    {pool.running} of {pool.slots}
                  </Table.Td>
                  <Table.Td>{pool.queued ?? 0}</Table.Td>
                  <Table.Td>{age(pool.oldest, now)}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Card>
      </Group>
    </Stack>
  );
}

type Counts = Record<Phase, number>;
const none = (): Counts => ({ Pending: 0, Running: 0, Succeeded: 0, Failed: 0, Cancelled: 0 });

function countPhases(runs: readonly RunRow[]): Counts {
  const counts = none();
  for (const run of runs) counts[run.phase] += 1;
  return counts;
}

function byHour(runs: readonly RunRow[], last: number): ({ hour: string } & Counts)[] {
  const hours = Array.from({ length: HOURS }, (_, place) => {
    const start = new Date((last - HOURS + 1 + place) * HOUR);
    return { hour: `${String(start.getHours()).padStart(2, "0")}:00`, ...none() };
  });
  for (const run of runs) {
    const bucket = hours[Math.floor((run.created ?? 0) / HOUR) - (last - HOURS + 1)];
    if (bucket) bucket[run.phase] += 1;
  }
  return hours;
}

function byWorkflow(runs: readonly RunRow[]): { workflow: string; phases: Counts }[] {
  const found = new Map<string, Counts>();
  for (const run of runs) {
    const counts = found.get(run.workflow) ?? none();
    counts[run.phase] += 1;
    found.set(run.workflow, counts);
  }
  return [...found]
    .map(([workflow, phases]) => ({ workflow, phases }))
    .sort((a, b) => b.phases.Failed - a.phases.Failed || a.workflow.localeCompare(b.workflow));
}

/** What an object says of itself that is not well, each thing once; Ready only sums up the others. */
export function unwell(who: string, href: string, conditions: readonly Condition[]) {
  const said = conditions
    .filter((each) => each.type !== "Ready" && each.message)
    .filter((each) => each.status === (each.type === "Stalled" ? "True" : "False"))
    .map((each) => `${each.reason ?? each.type}: ${each.message ?? ""}`);
  return [...new Set(said)].map((words) => ({ who, href, words }));
}
