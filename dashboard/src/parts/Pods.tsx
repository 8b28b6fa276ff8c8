// The pods of a pool, and why they are not ready, in the words of the kubelet and the scheduler.

import { Badge, Table, Text } from "@mantine/core";
import { inNamespace, useLoaded } from "../api";
import type { PodRow } from "../types";
import { Nothing, Problem } from "./Text";

const EVERY_MILLISECONDS = 5000;

export function Pods({ pool, namespace, now }: { pool: string; namespace: string; now: number }) {
  const path = `${inNamespace(namespace)}/pools/${encodeURIComponent(pool)}/pods`;
  const { value, error } = useLoaded<PodRow[]>(path, Math.floor(now / EVERY_MILLISECONDS));
  if (error !== undefined) return <Problem>{error}</Problem>;
  if (value === undefined) return <Nothing>…</Nothing>;
  if (value.length === 0) return <Nothing>No pods that the operator created.</Nothing>;
  return (
    <Table aria-label={`Pods of ${pool}`} mt="sm">
      <Table.Thead>
        <Table.Tr>
          {["Pod", "State", "Node"].map((column) => (
            <Table.Th key={column}>{column}</Table.Th>
          ))}
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {value.map((pod) => (
          <Table.Tr key={pod.uid}>
            <Table.Td>{pod.name}</Table.Td>
            <Table.Td>
              <Badge color={pod.isReady ? "teal" : "red"} variant="light">
                {pod.isReady ? "Ready" : "Not ready"}
              </Badge>
              {pod.trouble === undefined ? null : (
                <Text size="sm" c="red" className="text-block">
                  {pod.trouble}
                </Text>
              )}
            </Table.Td>
            <Table.Td>{pod.node ?? ""}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
