// What lets runs wait although workers are free: concurrency groups and rate limits.

import { Alert, Checkbox, Group, Progress, Stack, Table, Text, Title } from "@mantine/core";
import { useFilters } from "../filters";
import { until, useNow } from "../format";
import { Groups, groupsOf } from "../parts/Groups";
import { RunLinks } from "../parts/RunLinks";
import { Nothing } from "../parts/Text";
import { WorkflowField } from "../parts/WorkflowField";
import { useRows } from "../rows";
import type { RateLimitRow, Time } from "../types";
import { unwell } from "./Overview";

export function Limits() {
  const { workflows, rateLimits, isSynced } = useRows();
  const filters = useFilters();
  const now = useNow();
  const workflow = filters.get("workflow");
  const isWaitingWanted = filters.get("waiting") === "1";
  const shown = workflows.filter((each) => workflow === null || each.name === workflow);
  const groups = shown
    .flatMap(groupsOf)
    .filter(({ group }) => !isWaitingWanted || group.waiting > 0)
    .sort((a, b) => b.group.waiting - a.group.waiting);
  const hidden = shown.reduce((sum, each) => sum + (each.groupCount ?? 0) - (each.groups?.length ?? 0), 0);
  const limits = rateLimits
    .filter((limit) => !isWaitingWanted || (limit.waiting ?? 0) > 0)
    .sort((a, b) => (b.waiting ?? 0) - (a.waiting ?? 0) || a.key.localeCompare(b.key));
  return (
    <Stack>
      <Title order={1} size="h3">
        Limits
      </Title>
      <Group align="flex-end">
        <WorkflowField workflows={workflows} filters={filters} />
        <Checkbox
          label="Only if something waits"
          checked={isWaitingWanted}
          onChange={(event) => filters.change("waiting", event.currentTarget.checked ? "1" : null)}
          mb={8}
        />
      </Group>
      <Title order={2} size="h4">
        Concurrency groups
      </Title>
      {groups.length ? <Groups groups={groups} /> : isSynced ? <Nothing>No matching groups.</Nothing> : null}
      {hidden > 0 ? (
        <Text size="sm" c="dimmed">
          {hidden} more groups, in which fewer runs wait
        </Text>
      ) : null}
      <Title order={2} size="h4">
        Rate limits
      </Title>
      {limits.length ? (
        <RateLimits limits={limits} now={now} />
      ) : isSynced ? (
        <Nothing>No matching limits.</Nothing>
      ) : null}
    </Stack>
  );
}

function RateLimits({ limits, now }: { limits: readonly RateLimitRow[]; now: Time }) {
  return (
    <Table.ScrollContainer minWidth={800} type="native" tabIndex={0}>
      <Table aria-label="Rate limits">
        <Table.Thead>
          <Table.Tr>
            {["Limit", "Used", "Window", "Refills", "Waiting, the next first"].map((column) => (
              <Table.Th key={column}>{column}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {limits.map((limit) => (
            <Table.Tr key={limit.uid}>
              <Table.Td>
                {limit.key}
                {unwell(limit.name, "", limit.conditions).map(({ words }) => (
                  <Alert key={words} color="red" variant="light">
                    {words}
                  </Alert>
                ))}
              </Table.Td>
              <Table.Td>
                <Text size="sm">
                  {limit.used ?? 0} of {limit.limit}
                </Text>
                <Progress
                  value={limit.limit ? (100 * (limit.used ?? 0)) / limit.limit : 100}
                  aria-label={`${limit.used ?? 0} of ${limit.limit} units of ${limit.key} are used`}
                />
              </Table.Td>
              <Table.Td>{limit.window}</Table.Td>
              <Table.Td>{limit.refills && limit.refills > now ? until(limit.refills, now) : ""}</Table.Td>
              <Table.Td>
                <Text size="sm">{limit.waiting ?? 0}</Text>
                <RunLinks names={limit.waitingRuns ?? []} count={limit.waiting ?? 0} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
