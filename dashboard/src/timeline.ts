// Which lines a run's timeline has: the run, its steps, and the runs below it, in place. Pure.

import { PHASES, type Phase, type RunRow } from "./types";

/** Of more children than this of one step, those that are alike become one line until it is opened. */
export const MOST_SIBLINGS = 20;

export interface Line {
  id: string;
  depth: number;
  /** The run that the line is; without one, it is a group of runs. */
  run?: RunRow;
  group?: { workflow: string; phase: Phase; runs: RunRow[] };
  hasMore: boolean;
  isOpen: boolean;
}

export function childrenByParent(runs: readonly RunRow[]): Map<string, RunRow[]> {
  const found = new Map<string, RunRow[]>();
  for (const run of runs) {
    if (run.parent === undefined) continue;
    const siblings = found.get(run.parent);
    if (siblings) siblings.push(run);
    else found.set(run.parent, [run]);
  }
  return found;
}

/**
 * List the lines below a run.
 *
 * @param toggled Ids of lines that are not as they are at first: runs of up to two levels are open, groups are closed.
 */
export function linesOf(root: RunRow, children: Map<string, RunRow[]>, toggled: ReadonlySet<string>): Line[] {
  const lines: Line[] = [];
  const add = (run: RunRow, depth: number): void => {
    const below = children.get(run.uid) ?? [];
    const isOpen = toggled.has(run.uid) !== depth < 2;
    lines.push({ id: run.uid, depth, run, hasMore: below.length > 0, isOpen: isOpen && below.length > 0 });
    if (!isOpen) return;
    if (below.length <= MOST_SIBLINGS) {
      for (const child of inOrder(below)) add(child, depth + 1);
      return;
    }
    for (const group of groupsOf(below)) {
      const [only] = group.runs;
      if (group.runs.length === 1 && only) {
        add(only, depth + 1);
        continue;
      }
      const id = `${run.uid}/${group.workflow}/${group.phase}`;
      const isGroupOpen = toggled.has(id);
      lines.push({ id, depth: depth + 1, group, hasMore: true, isOpen: isGroupOpen });
      if (isGroupOpen) for (const child of inOrder(group.runs)) add(child, depth + 2);
    }
  };
  add(root, 0);
  return lines;
}

/** Runs that are alike, failures first. */
function groupsOf(runs: readonly RunRow[]): { workflow: string; phase: Phase; runs: RunRow[] }[] {
  const found = new Map<string, { workflow: string; phase: Phase; runs: RunRow[] }>();
  for (const run of runs) {
    const id = `${run.workflow}/${run.phase}`;
    const group = found.get(id);
    if (group) group.runs.push(run);
    else found.set(id, { workflow: run.workflow, phase: run.phase, runs: [run] });
  }
  return [...found.values()].sort((a, b) => PHASES.indexOf(a.phase) - PHASES.indexOf(b.phase));
}

const inOrder = (runs: readonly RunRow[]): RunRow[] => [...runs].sort((a, b) => (a.index ?? 0) - (b.index ?? 0));

export interface Span {
  from: number;
  to: number;
}

/**
 * When a run began to wait: its creation, which Kubernetes knows to the second, so of what started within that second
 * there is nothing to say.
 */
export function waitedFrom(run: RunRow, now: number): number | undefined {
  const until = run.started ?? run.finished ?? now;
  return run.created !== undefined && until - run.created > 1000 ? run.created : undefined;
}

/** From the creation of a run to the end of the last one below it. */
export function spanOf(root: RunRow, lines: readonly Line[], now: number): Span {
  const from = waitedFrom(root, now) ?? root.started ?? root.finished ?? now;
  let to = root.finished ?? now;
  for (const line of lines) {
    for (const run of line.run ? [line.run] : (line.group?.runs ?? [])) {
      to = Math.max(to, run.finished ?? (run.started === undefined ? to : now));
    }
  }
  return { from, to: Math.max(to, from + 1) };
}
