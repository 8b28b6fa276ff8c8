// Concurrency groups: who has a place and who waits for one.

import { Anchor, Table, Text } from "@mantine/core";
import { Link } from "wouter";
import type { GroupRow, WorkflowRow } from "../types";
import { RunLinks } from "./RunLinks";

export interface OfWorkflow {
  workflow: WorkflowRow;
  group: GroupRow;
}

export const groupsOf = (workflow: WorkflowRow): OfWorkflow[] =>
  (workflow.groups ?? []).map((group) => ({ workflow, group }));

export function Groups({ groups }: { groups: readonly OfWorkflow[] }) {
  return (
    <Table.ScrollContainer minWidth={800} type="native" tabIndex={0}>
      <Table aria-label="Concurrency groups">
        <Table.Thead>
          <Table.Tr>
            {["Workflow", "Group", "Going on", "Waiting, the next first"].map((column) => (
              <Table.Th key={column}>{column}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {groups.map(({ workflow, group }) => (
            <Table.Tr key={`${workflow.uid} ${group.expression} ${group.key}`}>
              <Table.Td>
                <Anchor component={Link} href={`/workflows/${workflow.name}`} size="sm">
                  {workflow.title}
                </Anchor>
              </Table.Td>
              <Table.Td>
                <Text size="sm">{group.key}</Text>
                <Text size="xs" c="dimmed" ff="monospace">
                  {group.expression}
                </Text>
              </Table.Td>
              <Table.Td>
                <Text size="sm">{group.most === undefined ? group.active : `${group.active} of ${group.most}`}</Text>
                <RunLinks names={group.activeRuns ?? []} count={group.active} all={allOf(workflow, group)} />
              </Table.Td>
              <Table.Td>
                <Text size="sm">{group.waiting}</Text>
                <RunLinks names={group.waitingRuns ?? []} count={group.waiting} all={allOf(workflow, group)} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

const allOf = (workflow: WorkflowRow, group: GroupRow): string =>
  `/runs?${new URLSearchParams([
    ["workflow", workflow.name],
    ["group", group.key],
    ["phase", "Running"],
    ["phase", "Pending"],
    ["children", "1"],
  ])}`;
