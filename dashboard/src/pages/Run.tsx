// One run: where it stands and why, over time with all below it, its steps, what went in and came out.

import { Alert, Anchor, Breadcrumbs, Card, Group, Stack, Table, Tabs, Text, Title } from "@mantine/core";
import { useMemo } from "react";
import { Link, useParams, useSearchParams } from "wouter";
import { ofRun, useLoaded } from "../api";
import { clock, duration, pretty, took, useNow } from "../format";
import { Acts } from "../parts/Acts";
import { Logs } from "../parts/Logs";
import { Phase } from "../parts/Phase";
import { StepGraph } from "../parts/StepGraph";
import { Block, NotHere, Nothing, Problem } from "../parts/Text";
import { Timeline } from "../parts/Timeline";
import { useRows } from "../rows";
import type { KubernetesEvent, Rights, RunObject, RunRow, StepStatus, Why } from "../types";

export function Run({ rights }: { rights: Rights | undefined }) {
  const { name = "" } = useParams<{ name: string }>();
  const { runs, workflows, namespace, isSynced } = useRows();
  const [asked, setAsked] = useSearchParams();
  const now = useNow();
  const row = useMemo(() => runs.find((run) => run.name === name), [runs, name]);
  const { value, error } = useLoaded<{ object: RunObject }>(ofRun(namespace, name), row?.version);
  const titles = useMemo(() => new Map(workflows.map((each) => [each.name, each.title])), [workflows]);
  if (row === undefined)
    return isSynced ? (
      <NotHere>There is no run {name} in this namespace; it may have been deleted.</NotHere>
    ) : (
      <Nothing>…</Nothing>
    );
  const workflow = workflows.find((each) => each.name === row.workflow);
  const object = value?.object;
  const steps = object?.status?.steps ?? {};
  return (
    <Stack>
      <Breadcrumbs>
        <Anchor component={Link} href="/runs" size="sm">
          Runs
        </Anchor>
        {ancestorsOf(row, runs).map((run) => (
          <Anchor key={run.uid} component={Link} href={`/runs/${run.name}`} size="sm">
            {run.name}
          </Anchor>
        ))}
      </Breadcrumbs>
      <Group justify="space-between">
        <Group>
          <Title order={1} size="h3">
            {row.name}
          </Title>
          <Phase phase={row.phase} />
          <Text size="sm" c="dimmed">
            <Anchor component={Link} href={`/workflows/${row.workflow}`} size="sm" underline="always">
              {titles.get(row.workflow) ?? row.workflow}
            </Anchor>{" "}
            · started {clock(row.started ?? row.created)} · {took(row, now)}
          </Text>
        </Group>
        {rights?.change ? <Acts run={row} namespace={namespace} /> : null}
      </Group>
      {error === undefined ? null : <Problem>{error}</Problem>}
      <Explanation row={row} namespace={namespace} message={object?.status?.message} />
      <Tabs value={asked.get("tab") ?? "timeline"} onChange={(tab) => setAsked(tab ? { tab } : {})} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="timeline">Timeline</Tabs.Tab>
          <Tabs.Tab value="steps">Steps</Tabs.Tab>
          <Tabs.Tab value="data">Input and output</Tabs.Tab>
          {rights?.logs ? <Tabs.Tab value="logs">Logs</Tabs.Tab> : null}
          <Tabs.Tab value="events">Events</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="timeline" pt="md">
          <Timeline root={row} runs={runs} titles={titles} />
        </Tabs.Panel>
        <Tabs.Panel value="steps" pt="md">
          <Stack>
            {workflow ? <StepGraph steps={workflow.steps} onFailure={workflow.onFailure} statuses={steps} /> : null}
            <Steps steps={steps} now={now} />
          </Stack>
        </Tabs.Panel>
        <Tabs.Panel value="data" pt="md">
          <Data object={object} />
        </Tabs.Panel>
        <Tabs.Panel value="logs" pt="md">
          <Logs namespace={namespace} name={name} />
        </Tabs.Panel>
        <Tabs.Panel value="events" pt="md">
          <Events row={row} namespace={namespace} />
        </Tabs.Panel>
      </Tabs>
    </Stack>
  );
}

function ancestorsOf(run: RunRow, runs: readonly RunRow[]): RunRow[] {
  const byUid = new Map(runs.map((each) => [each.uid, each]));
  const found: RunRow[] = [];
  for (let above = run.parent; above !== undefined; ) {
    const parent = byUid.get(above);
    if (parent === undefined) break;
    found.unshift(parent);
    above = parent.parent;
  }
  return found;
}

/** Why it failed or waits, in the words of whoever knows. */
function Explanation({ row, namespace, message }: { row: RunRow; namespace: string; message?: string | undefined }) {
  const isAsked = row.phase !== "Succeeded" && row.phase !== "Cancelled";
  const { value } = useLoaded<Why>(isAsked ? `${ofRun(namespace, row.name)}/why` : null, row.version);
  if (row.phase === "Cancelled") return message ? <Alert color="yellow">{message}</Alert> : null;
  if (value?.failure) {
    const cause = value.failure.path.at(-1);
    if (cause === undefined) return null;
    return (
      <Alert color="red" title={cause.headline}>
        <Stack gap="xs">
          <Text size="sm">
            {value.failure.path.map((step, place) => (
              <span key={step.run}>
                {place ? " → " : ""}
                <Anchor component={Link} href={`/runs/${step.run}`} size="sm" underline="always">
                  {step.workflow} {step.run}
                </Anchor>
                {step.step === null ? "" : `, step ${step.step}, attempt ${step.attempt}`}
              </span>
            ))}
            {value.failure.others.length ? ` · ${value.failure.others.length} more runs below it failed` : ""}
          </Text>
          <Block text={cause.text} title="Error" tone="error" />
        </Stack>
      </Alert>
    );
  }
  if (!value?.findings?.length) return null;
  return (
    <Alert color="blue" variant="light" title="Now">
      {value.findings.map((finding) => (
        <Text key={finding.words} size="sm">
          {finding.runs.length > 1 ? `${finding.runs.length} runs: ` : ""}
          {finding.words}
        </Text>
      ))}
      {value.around?.map((sentence) => (
        <Text key={sentence} size="sm">
          {sentence}
        </Text>
      ))}
    </Alert>
  );
}

function Steps({ steps, now }: { steps: Record<string, StepStatus>; now: number }) {
  if (!Object.keys(steps).length) return <Nothing>No step has begun.</Nothing>;
  return (
    <Table aria-label="Steps">
      <Table.Thead>
        <Table.Tr>
          {["Step", "Phase", "Attempt", "Duration", "Worker", "Reason"].map((column) => (
            <Table.Th key={column}>{column}</Table.Th>
          ))}
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {Object.entries(steps).map(([name, step]) => (
          <Table.Tr key={name}>
            <Table.Td>{name}</Table.Td>
            <Table.Td>
              <Phase phase={step.phase} />
            </Table.Td>
            <Table.Td>{(step.attempt ?? 0) + 1}</Table.Td>
            <Table.Td>
              {step.startedAt
                ? duration((step.finishedAt ? Date.parse(step.finishedAt) : now) - Date.parse(step.startedAt))
                : ""}
            </Table.Td>
            <Table.Td>{step.worker}</Table.Td>
            <Table.Td>{step.reason}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function Data({ object }: { object: RunObject | undefined }) {
  if (object === undefined) return <Nothing>…</Nothing>;
  const { input, inputJson, additionalMetadata } = object.spec;
  const steps = Object.entries(object.status?.steps ?? {});
  return (
    <Stack>
      <Block title="Input" text={inputJson === undefined ? JSON.stringify(input ?? {}, null, 2) : pretty(inputJson)} />
      {additionalMetadata ? <Block title="Metadata" text={JSON.stringify(additionalMetadata, null, 2)} /> : null}
      {steps.map(([name, step]) => (
        <div key={name}>
          {step.output === undefined ? null : <Block title={`Output of ${name}`} text={pretty(step.output)} />}
          {step.error === undefined ? null : <Block title={`Error of ${name}`} text={step.error} tone="error" />}
        </div>
      ))}
    </Stack>
  );
}

function Events({ row, namespace }: { row: RunRow; namespace: string }) {
  const { value, error } = useLoaded<KubernetesEvent[]>(
    `${ofRun(namespace, row.name)}/events?uid=${row.uid}`,
    row.version,
  );
  if (error !== undefined) return <Problem>{error}</Problem>;
  if (value === undefined) return <Nothing>…</Nothing>;
  if (value.length === 0) return <Nothing>No events; Kubernetes keeps them for an hour.</Nothing>;
  return (
    <Card withBorder>
      <Table aria-label="Events">
        <Table.Tbody>
          {value.map((event) => (
            <Table.Tr key={event.uid}>
              <Table.Td>{clock(event.last)}</Table.Td>
              <Table.Td c={event.type === "Warning" ? "red" : ""}>{event.reason}</Table.Td>
              <Table.Td>{event.message}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Card>
  );
}
