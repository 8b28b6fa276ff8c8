// Any number of runs as a table of which only the visible rows exist.

import { Anchor } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import { Link } from "wouter";
import { age, took, useNow } from "../format";
import type { RunRow } from "../types";
import { Phase } from "./Phase";

const ROW_HEIGHT = 34;
const COLUMNS = ["Name", "Workflow", "Phase", "Reason", "Age", "Duration", "Children"] as const;

export function RunTable({
  runs,
  titles,
  height,
}: {
  runs: readonly RunRow[];
  titles: ReadonlyMap<string, string>;
  height: string;
}) {
  const now = useNow();
  const scrolled = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: runs.length,
    getScrollElement: () => scrolled.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 12,
  });
  return (
    <div
      ref={scrolled}
      className="virtual"
      style={{ height }}
      role="table"
      aria-rowcount={runs.length + 1}
      aria-label="Runs"
      tabIndex={0}
    >
      <div className="virtual-head run-columns" role="row" aria-rowindex={1}>
        {COLUMNS.map((column) => (
          <div key={column} role="columnheader">
            {column}
          </div>
        ))}
      </div>
      <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map((item) => {
          const run = runs[item.index];
          if (run === undefined) return null;
          return (
            <div
              key={run.uid}
              className="virtual-row run-columns"
              role="row"
              aria-rowindex={item.index + 2}
              style={{ height: ROW_HEIGHT, transform: `translateY(${item.start}px)` }}
            >
              <div role="cell">
                <Anchor component={Link} href={`/runs/${run.name}`} size="sm" title={run.name}>
                  {run.name}
                </Anchor>
              </div>
              <div role="cell">{titles.get(run.workflow) ?? run.workflow}</div>
              <div role="cell">
                <Phase phase={run.phase} />
              </div>
              <div role="cell">{run.phase === "Succeeded" ? "" : run.reason}</div>
              <div role="cell">{age(run.created, now)}</div>
              <div role="cell">{took(run, now)}</div>
              <div role="cell">{run.children ?? ""}</div>
            </div>
          );
        })}
      </div>
    </div>
  );
}
