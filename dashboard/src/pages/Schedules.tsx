// What starts by the clock: crons, and runs that are to start at a time.

import { Checkbox, Group, Stack, Title } from "@mantine/core";
import { useMemo } from "react";
import { useFilters } from "../filters";
import { useNow } from "../format";
import { Crons, cronsOf } from "../parts/Crons";
import { isScheduled, Scheduled } from "../parts/Scheduled";
import { Nothing } from "../parts/Text";
import { WorkflowField } from "../parts/WorkflowField";
import { useRows } from "../rows";
import type { Rights } from "../types";

export function Schedules({ rights }: { rights: Rights | undefined }) {
  const { runs, workflows, namespace, isSynced } = useRows();
  const filters = useFilters();
  const now = useNow();
  const titles = useMemo(() => new Map(workflows.map((each) => [each.name, each.title])), [workflows]);
  const workflow = filters.get("workflow");
  const isSuspendedHidden = filters.get("active") === "1";
  const crons = workflows
    .filter((each) => workflow === null || each.name === workflow)
    .flatMap(cronsOf)
    .filter(({ cron }) => !(isSuspendedHidden && cron.suspended))
    .sort((a, b) => (a.cron.nextTick ?? Infinity) - (b.cron.nextTick ?? Infinity));
  const scheduled = runs
    .filter((run) => isScheduled(run, now))
    .filter((run) => workflow === null || run.workflow === workflow)
    .sort((a, b) => a.starts - b.starts);
  return (
    <Stack>
      <Title order={1} size="h3">
        Schedules
      </Title>
      <Group align="flex-end">
        <WorkflowField workflows={workflows} filters={filters} />
        <Checkbox
          label="Hide suspended crons"
          checked={isSuspendedHidden}
          onChange={(event) => filters.change("active", event.currentTarget.checked ? "1" : null)}
          mb={8}
        />
      </Group>
      <Title order={2} size="h4">
        Crons
      </Title>
      {crons.length ? (
        <Crons crons={crons} namespace={namespace} rights={rights} now={now} />
      ) : isSynced ? (
        <Nothing>No matching crons.</Nothing>
      ) : null}
      <Title order={2} size="h4">
        Scheduled runs
      </Title>
      {scheduled.length ? (
        <Scheduled runs={scheduled} titles={titles} namespace={namespace} rights={rights} now={now} />
      ) : isSynced ? (
        <Nothing>No scheduled runs.</Nothing>
      ) : null}
    </Stack>
  );
}
