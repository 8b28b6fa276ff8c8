import { Badge } from "@mantine/core";
import type { Phase as PhaseName } from "../types";

export const COLORS: Record<PhaseName, string> = {
  Pending: "gray",
  Running: "blue",
  Succeeded: "teal",
  Failed: "red",
  Cancelled: "yellow",
};

/** A phase, told by its word first and by its colour second. */
export function Phase({ phase }: { phase: PhaseName }) {
  return (
    <Badge variant="light" color={COLORS[phase]} size="sm" radius="sm" autoContrast>
      {phase}
    </Badge>
  );
}
