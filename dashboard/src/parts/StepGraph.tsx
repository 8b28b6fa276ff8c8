// A workflow's steps and what they wait for, whether it was ever run or not.

import dagre from "@dagrejs/dagre";
import { useMantineColorScheme } from "@mantine/core";
import { Background, Controls, type Edge, MarkerType, type Node, Position, ReactFlow } from "@xyflow/react";
import { useMemo } from "react";
import type { Phase, StepRow, StepStatus } from "../types";
import { COLORS } from "./Phase";

const WIDTH = 180;
const HEIGHT = 44;

export function StepGraph({
  steps,
  onFailure,
  statuses,
}: {
  steps: readonly StepRow[];
  onFailure?: StepRow | undefined;
  statuses?: Record<string, StepStatus> | undefined;
}) {
  const { colorScheme } = useMantineColorScheme();
  const { nodes, edges } = useMemo(() => laidOut(steps, onFailure, statuses), [steps, onFailure, statuses]);
  const rows = new Set(nodes.map((node) => node.position.y)).size;
  return (
    <section className="graph" style={{ height: Math.min(420, 60 + rows * 70) }} aria-label="Steps">
      <ReactFlow
        nodes={nodes}
        edges={edges}
        colorMode={colorScheme === "auto" ? "system" : colorScheme}
        fitView
        fitViewOptions={{ maxZoom: 1 }}
        nodesDraggable={false}
        nodesConnectable={false}
        proOptions={{ hideAttribution: true }}
      >
        <Background />
        <Controls showInteractive={false} />
      </ReactFlow>
    </section>
  );
}

function laidOut(
  steps: readonly StepRow[],
  onFailure: StepRow | undefined,
  statuses: Record<string, StepStatus> | undefined,
): { nodes: Node[]; edges: Edge[] } {
  const graph = new dagre.graphlib.Graph().setGraph({ rankdir: "LR", ranksep: 60, nodesep: 20 });
  graph.setDefaultEdgeLabel(() => ({}));
  const all = onFailure ? [...steps, onFailure] : steps;
  for (const step of all) graph.setNode(step.name, { width: WIDTH, height: HEIGHT });
  for (const step of steps) for (const parent of step.parents ?? []) graph.setEdge(parent, step.name);
  dagre.layout(graph);
  const nodes = all.map((step): Node => {
    const place = graph.node(step.name);
    const status = statuses?.[step.name];
    return {
      id: step.name,
      position: { x: place.x - WIDTH / 2, y: place.y - HEIGHT / 2 },
      sourcePosition: Position.Right,
      targetPosition: Position.Left,
      data: { label: words(step, status, step === onFailure) },
      style: { width: WIDTH, ...colors(status?.phase), ...(step === onFailure ? { borderStyle: "dashed" } : {}) },
    };
  });
  const edges = steps.flatMap((step) =>
    (step.parents ?? []).map(
      (parent): Edge => ({
        id: `${parent}→${step.name}`,
        source: parent,
        target: step.name,
        markerEnd: { type: MarkerType.ArrowClosed },
      }),
    ),
  );
  return { nodes, edges };
}

const words = (step: StepRow, status: StepStatus | undefined, isOnFailure: boolean): string =>
  step.name + (status ? ` · ${status.phase}` : isOnFailure ? " · on failure" : "");

const colors = (phase: Phase | undefined): Record<string, string> =>
  phase ? { borderColor: `var(--mantine-color-${COLORS[phase]}-6)`, borderWidth: "2px" } : {};
