// Schedules of workflows, and what became of them; each may be suspended by itself, unless its workflow is.

import { Anchor, Badge, Table, Text } from "@mantine/core";
import { Link } from "wouter";
import { ofWorkflow } from "../api";
import { age, clockIn, until } from "../format";
import type { CronRow, Rights, Time, WorkflowRow } from "../types";
import { Suspend } from "./Suspend";

const OVERLAP: Record<CronRow["overlap"], string> = {
  Allow: "starts another",
  Forbid: "skips the tick",
  Replace: "cancels it",
};
const COLUMNS = ["Workflow", "Schedule", "Next tick", "Last tick", "Last run", "Overlap", "State"] as const;

export interface Cron {
  workflow: WorkflowRow;
  cron: CronRow;
}

export const cronsOf = (workflow: WorkflowRow): Cron[] => (workflow.crons ?? []).map((cron) => ({ workflow, cron }));

export function Crons({
  crons,
  namespace,
  rights,
  now,
}: {
  crons: readonly Cron[];
  namespace: string;
  rights: Rights | undefined;
  now: Time;
}) {
  const isOffered = rights?.changeWorkflows === true && crons.some(({ workflow }) => !workflow.suspended);
  return (
    <Table.ScrollContainer minWidth={800} type="native" tabIndex={0}>
      <Table aria-label="Crons">
        <Table.Thead>
          <Table.Tr>
            {COLUMNS.map((column) => (
              <Table.Th key={column}>{column}</Table.Th>
            ))}
            {isOffered ? <Table.Th>Change</Table.Th> : null}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {crons.map(({ workflow, cron }) => (
            <Table.Tr key={`${workflow.uid} ${cron.schedule} ${cron.zone}`}>
              <Table.Td>
                <Anchor component={Link} href={`/workflows/${workflow.name}`} size="sm">
                  {workflow.title}
                </Anchor>
              </Table.Td>
              <Table.Td>
                <Text size="sm" ff="monospace">
                  {cron.schedule}
                </Text>
                <Text size="xs" c="dimmed">
                  {cron.zone}
                </Text>
              </Table.Td>
              <Table.Td>
                <Tick time={cron.nextTick} zone={cron.zone} words={cron.nextTick && until(cron.nextTick, now)} />
              </Table.Td>
              <Table.Td>
                <Tick time={cron.lastTick} zone={cron.zone} words={cron.lastTick && `${age(cron.lastTick, now)} ago`} />
              </Table.Td>
              <Table.Td>
                {cron.lastRun === undefined ? null : (
                  <Anchor component={Link} href={`/runs/${cron.lastRun}`} size="sm">
                    {cron.lastRun}
                  </Anchor>
                )}
              </Table.Td>
              <Table.Td>{OVERLAP[cron.overlap]}</Table.Td>
              <Table.Td>
                {cron.suspended ? <Badge color="yellow">Suspended</Badge> : null}
                {cron.message === undefined ? null : (
                  <Text size="sm" c="red">
                    {cron.message}
                  </Text>
                )}
              </Table.Td>
              {isOffered ? (
                <Table.Td>
                  {workflow.suspended ? null : (
                    <Suspend
                      path={`${ofWorkflow(namespace, workflow.name)}/crons/suspended`}
                      body={{ schedule: cron.schedule, zone: cron.zone }}
                      isSuspended={cron.suspended === true}
                      of={`${cron.schedule} of ${workflow.title}`}
                    />
                  )}
                </Table.Td>
              ) : null}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Tick({ time, zone, words }: { time: Time | undefined; zone: string; words: string | 0 | undefined }) {
  if (time === undefined) return null;
  return (
    <>
      <Text size="sm">{words}</Text>
      <Text size="xs" c="dimmed">
        {clockIn(zone, time)}
      </Text>
    </>
  );
}
