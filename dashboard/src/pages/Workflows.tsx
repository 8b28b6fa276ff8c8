import { Anchor, Badge, Group, Stack, Table, Text, Title } from "@mantine/core";
import { useMemo } from "react";
import { Link, useParams } from "wouter";
import { ofWorkflow } from "../api";
import { age, duration, useNow } from "../format";
import { Crons, cronsOf } from "../parts/Crons";
import { Groups, groupsOf } from "../parts/Groups";
import { RunTable } from "../parts/RunTable";
import { StartRun } from "../parts/StartRun";
import { StepGraph } from "../parts/StepGraph";
import { Suspend } from "../parts/Suspend";
import { NotHere, Nothing } from "../parts/Text";
import { useRows } from "../rows";
import type { Rights, WorkflowRow } from "../types";
import { unwell } from "./Overview";

export function Workflows() {
  const { workflows, isSynced } = useRows();
  const now = useNow();
  return (
    <Stack>
      <Title order={1} size="h3">
        Workflows
      </Title>
      {workflows.length === 0 && isSynced ? <Nothing>No worker has registered a workflow here.</Nothing> : null}
      <Table aria-label="Workflows" highlightOnHover>
        <Table.Thead>
          <Table.Tr>
            {[
              "Workflow",
              "Workers",
              "Pool",
              "Steps",
              "Version",
              "Last tick",
              "Next tick",
              "Waiting in groups",
              "State",
            ].map((column) => (
              <Table.Th key={column}>{column}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {workflows.map((each) => (
            <Table.Tr key={each.uid}>
              <Table.Td>
                <Anchor component={Link} href={`/workflows/${each.name}`} size="sm">
                  {each.title}
                </Anchor>
              </Table.Td>
              <Table.Td>{each.workers ?? ""}</Table.Td>
              <Table.Td>{each.pool}</Table.Td>
              <Table.Td>{each.steps.length}</Table.Td>
              <Table.Td>{each.version}</Table.Td>
              <Table.Td>{each.lastTick ? `${age(each.lastTick, now)} ago` : ""}</Table.Td>
              <Table.Td>{each.nextTick ? `in ${duration(each.nextTick - now)}` : ""}</Table.Td>
              <Table.Td>{each.waiting ?? ""}</Table.Td>
              <Table.Td>
                <State workflow={each} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Stack>
  );
}

function State({ workflow }: { workflow: WorkflowRow }) {
  if (workflow.suspended) return <Badge color="yellow">Suspended</Badge>;
  const [trouble] = unwell("", "", workflow.conditions);
  return trouble ? (
    <Text size="sm" c="red" lineClamp={1} title={trouble.words}>
      {trouble.words}
    </Text>
  ) : null;
}

export function Workflow({ rights }: { rights: Rights | undefined }) {
  const { name = "" } = useParams<{ name: string }>();
  const { workflows, runs, namespace, isSynced } = useRows();
  const now = useNow();
  const titles = useMemo(() => new Map(workflows.map((each) => [each.name, each.title])), [workflows]);
  const own = useMemo(
    () => runs.filter((run) => run.workflow === name).sort((a, b) => (b.created ?? 0) - (a.created ?? 0)),
    [runs, name],
  );
  const workflow = workflows.find((each) => each.name === name);
  if (workflow === undefined)
    return isSynced ? <NotHere>There is no workflow {name} in this namespace.</NotHere> : <Nothing>…</Nothing>;
  return (
    <Stack>
      <Group justify="space-between">
        <Group>
          <Title order={1} size="h3">
            {workflow.title}
          </Title>
          <State workflow={workflow} />
        </Group>
        <Group>
          {rights?.changeWorkflows ? (
            <Suspend path={`${ofWorkflow(namespace, name)}/suspended`} isSuspended={workflow.suspended === true} />
          ) : null}
          {rights?.start ? <StartRun workflow={workflow} namespace={namespace} /> : null}
        </Group>
      </Group>
      {workflow.description ? <Text size="sm">{workflow.description}</Text> : null}
      <StepGraph steps={workflow.steps} onFailure={workflow.onFailure} />
      {workflow.crons ? <Crons crons={cronsOf(workflow)} namespace={namespace} rights={rights} now={now} /> : null}
      {workflow.groups ? <Groups groups={groupsOf(workflow)} /> : null}
      <RunTable runs={own} titles={titles} height="360px" />
    </Stack>
  );
}
