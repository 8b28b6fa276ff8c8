// All runs of the namespace, filtered by what the address says.

import { Checkbox, Group, MultiSelect, Stack, Text, TextInput, Title } from "@mantine/core";
import { useMemo } from "react";
import { useFilters } from "../filters";
import { RunTable } from "../parts/RunTable";
import { Nothing } from "../parts/Text";
import { WorkflowField } from "../parts/WorkflowField";
import { useRows } from "../rows";
import { PHASES, type RunRow } from "../types";

export function Runs() {
  const { runs, workflows, isSynced } = useRows();
  const filters = useFilters();
  const { query, change } = filters;
  const wanted = useMemo(() => read(new URLSearchParams(query)), [query]);
  const titles = useMemo(() => new Map(workflows.map((each) => [each.name, each.title])), [workflows]);
  const shown = useMemo(() => inOrder(runs.filter((run) => isAsked(run, wanted))), [runs, wanted]);
  const { phases, group, text, withChildren } = wanted;
  return (
    <Stack gap="sm">
      <Group align="flex-end">
        <Title order={1} size="h3">
          Runs
        </Title>
        <Text c="dimmed" size="sm" data-testid="shown">
          {shown.length} of {runs.length}
          {isSynced ? "" : " so far"}
        </Text>
      </Group>
      <Group align="flex-end">
        <TextInput
          label="Find"
          placeholder="name, key, metadata"
          defaultValue={text}
          onChange={(event) => change("q", event.currentTarget.value)}
          w={240}
        />
        <MultiSelect
          label="Phase"
          placeholder={phases.length ? "" : "any"}
          data={[...PHASES]}
          value={phases}
          onChange={(values) => change("phase", values)}
          w={260}
        />
        <WorkflowField workflows={workflows} filters={filters} />
        <TextInput
          label="Concurrency group"
          placeholder="any"
          defaultValue={group ?? ""}
          onChange={(event) => change("group", event.currentTarget.value)}
          w={180}
        />
        <Checkbox
          label="Include child runs"
          checked={withChildren}
          onChange={(event) => change("children", event.currentTarget.checked ? "1" : null)}
          mb={8}
        />
      </Group>
      {shown.length === 0 && isSynced ? <Nothing>No matching runs.</Nothing> : null}
      <RunTable runs={shown} titles={titles} height="calc(100dvh - 220px)" />
    </Stack>
  );
}

interface Asked {
  phases: string[];
  workflow: string | null;
  group: string | null;
  text: string;
  withChildren: boolean;
}

const read = (query: URLSearchParams): Asked => ({
  phases: query.getAll("phase"),
  workflow: query.get("workflow"),
  group: query.get("group"),
  text: query.get("q") ?? "",
  withChildren: query.get("children") === "1",
});

function isAsked(run: RunRow, { phases, workflow, group, text, withChildren }: Asked): boolean {
  if (!withChildren && run.parent !== undefined) return false;
  if (phases.length && !phases.includes(run.phase)) return false;
  if (workflow !== null && run.workflow !== workflow) return false;
  if (group !== null && !run.groups?.includes(group)) return false;
  const said = text.trim().toLowerCase();
  return !said || searched(run).includes(said);
}

const searched = (run: RunRow): string =>
  [run.name, run.key, run.reason, ...Object.entries(run.metadata ?? {}).map(([key, value]) => `${key}=${value}`)]
    .join(" ")
    .toLowerCase();

/** Failed roots first, then what is not over, then the rest; the newest first in each: as `kubectl hatchet list`. */
function inOrder(runs: RunRow[]): RunRow[] {
  const rank = (run: RunRow): number => {
    if (run.phase === "Failed") return run.parent === undefined ? 0 : 1;
    return run.phase === "Running" || run.phase === "Pending" ? 2 : 3;
  };
  return runs.sort((a, b) => rank(a) - rank(b) || (b.created ?? 0) - (a.created ?? 0) || a.name.localeCompare(b.name));
}
