import { Select } from "@mantine/core";
import type { Filters } from "../filters";
import type { WorkflowRow } from "../types";

/** The filter by workflow, which the views share. */
export function WorkflowField({ workflows, filters }: { workflows: readonly WorkflowRow[]; filters: Filters }) {
  return (
    <Select
      label="Workflow"
      placeholder="any"
      data={workflows.map((each) => ({ value: each.name, label: each.title }))}
      value={filters.get("workflow")}
      onChange={(value) => filters.change("workflow", value)}
      clearable
      searchable
      w={240}
    />
  );
}
