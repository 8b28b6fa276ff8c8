// A run and all below it, as a tree on the left and as bars over time on the right.

import { ActionIcon, Anchor, Group, Text, Tooltip, UnstyledButton } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useMemo, useRef, useState } from "react";
import { Link } from "wouter";
import { duration, label, took, useNow } from "../format";
import { childrenByParent, type Line, linesOf, type Span, spanOf, waitedFrom } from "../timeline";
import type { RunRow } from "../types";
import { COLORS } from "./Phase";

const ROW_HEIGHT = 28;
const MOST_ZOOM = 64;

export function Timeline({
  root,
  runs,
  titles,
}: {
  root: RunRow;
  runs: readonly RunRow[];
  titles: ReadonlyMap<string, string>;
}) {
  const now = useNow();
  const [toggled, setToggled] = useState<ReadonlySet<string>>(new Set());
  const [zoom, setZoom] = useState(1);
  const scrolled = useRef<HTMLDivElement>(null);
  const children = useMemo(() => childrenByParent(runs), [runs]);
  const lines = useMemo(() => linesOf(root, children, toggled), [root, children, toggled]);
  const span = useMemo(() => spanOf(root, lines, now), [root, lines, now]);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scrolled.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 10,
  });

  const toggle = (id: string): void =>
    setToggled((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });
  const zoomBy = (factor: number): void => setZoom((before) => Math.min(MOST_ZOOM, Math.max(1, before * factor)));
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "+" || event.key === "=") zoomBy(2);
    else if (event.key === "-") zoomBy(0.5);
    else if (event.key === "0") setZoom(1);
  };

  return (
    <div>
      <Group justify="space-between" mb={6}>
        <Text size="sm" c="dimmed">
          {duration(span.to - span.from)} in all, {lines.length} lines
        </Text>
        <Group gap={4}>
          <ZoomButton label="Zoom out" sign="−" onClick={() => zoomBy(0.5)} />
          <ZoomButton label="Show all" sign="⤢" onClick={() => setZoom(1)} />
          <ZoomButton label="Zoom in" sign="+" onClick={() => zoomBy(2)} />
        </Group>
      </Group>
      <div
        ref={scrolled}
        className="virtual timeline"
        style={{ height: Math.min(560, lines.length * ROW_HEIGHT + 18) }}
        onKeyDown={onKey}
        tabIndex={0}
        role="list"
        aria-label="Runs over time"
      >
        <div style={{ height: virtual.getTotalSize(), position: "relative", minWidth: `${zoom * 100}%` }}>
          {virtual.getVirtualItems().map((item) => {
            const line = lines[item.index];
            if (line === undefined) return null;
            return (
              <div
                key={line.id}
                className="timeline-row"
                role="listitem"
                style={{ height: ROW_HEIGHT, transform: `translateY(${item.start}px)` }}
              >
                <div className="timeline-name" style={{ paddingLeft: 6 + line.depth * 16 }}>
                  {line.hasMore ? (
                    <UnstyledButton
                      className="toggle"
                      onClick={() => toggle(line.id)}
                      aria-label="Runs below it"
                      aria-expanded={line.isOpen}
                    >
                      {line.isOpen ? "▾" : "▸"}
                    </UnstyledButton>
                  ) : (
                    <span className="toggle" />
                  )}
                  <Name line={line} titles={titles} />
                </div>
                <div className="timeline-bars">
                  <Bars line={line} span={span} now={now} />
                </div>
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

function ZoomButton({ label: words, sign, onClick }: { label: string; sign: string; onClick: () => void }) {
  return (
    <Tooltip label={words}>
      <ActionIcon variant="default" size="sm" onClick={onClick} aria-label={words}>
        {sign}
      </ActionIcon>
    </Tooltip>
  );
}

function Name({ line, titles }: { line: Line; titles: ReadonlyMap<string, string> }) {
  if (line.group) {
    const { workflow, phase, runs } = line.group;
    return (
      <Text size="sm" truncate c={COLORS[phase]}>
        {runs.length} × {titles.get(workflow) ?? workflow}, {phase}
      </Text>
    );
  }
  if (!line.run) return null;
  const title = titles.get(line.run.workflow) ?? line.run.workflow;
  return (
    <Text size="sm" truncate>
      {line.depth === 0 ? (
        line.run.name
      ) : (
        <Anchor component={Link} href={`/runs/${line.run.name}`} size="sm" title={`${title} ${label(line.run)}`}>
          {title} {label(line.run)}
        </Anchor>
      )}
    </Text>
  );
}

function Bars({ line, span, now }: { line: Line; span: Span; now: number }) {
  const runs = line.run ? [line.run] : (line.group?.runs ?? []);
  const started = runs.filter((run) => run.started !== undefined);
  if (line.group) {
    const from = Math.min(...started.map((run) => run.started ?? now));
    const to = Math.max(...started.map((run) => run.finished ?? now));
    return started.length ? (
      <Bar from={from} to={to} span={span} phase={line.group.phase} title={`${runs.length} runs`} />
    ) : null;
  }
  const run = runs[0];
  if (!run) return null;
  const begun = run.started ?? run.finished ?? now;
  const waiting = waitedFrom(run, now);
  return (
    <>
      {waiting !== undefined ? (
        <Bar
          from={Math.max(waiting, span.from)}
          to={begun}
          span={span}
          phase="Pending"
          title={`waited ${duration(begun - waiting)}`}
        />
      ) : null}
      {run.started !== undefined ? (
        <Bar
          from={run.started}
          to={run.finished ?? now}
          span={span}
          phase={run.phase}
          title={`${run.phase}, ${took(run, now)}`}
        />
      ) : null}
    </>
  );
}

function Bar({
  from,
  to,
  span,
  phase,
  title,
}: {
  from: number;
  to: number;
  span: Span;
  phase: RunRow["phase"];
  title: string;
}) {
  const scale = 100 / (span.to - span.from);
  return (
    <div
      className={phase === "Pending" ? "bar bar-waiting" : "bar"}
      title={title}
      style={{
        left: `${(from - span.from) * scale}%`,
        width: `max(3px, ${(to - from) * scale}%)`,
        background: `var(--mantine-color-${COLORS[phase]}-6)`,
      }}
    />
  );
}
