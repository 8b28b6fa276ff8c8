// What can be done to a run, as far as its state and the viewer's rights go.

import { Button, Group } from "@mantine/core";
import { useState } from "react";
import { ofRun, post } from "../api";
import { type Act, isFinal, type RunRow } from "../types";
import { Problem } from "./Text";

export function actsFor(run: RunRow): Act[] {
  if (isFinal(run.phase)) {
    if (run.phase === "Cancelled") return [];
    return run.phase === "Failed" ? ["retry", "replay"] : ["replay"];
  }
  if (run.reason === "Paused") return ["resume", "cancel"];
  return [run.suspended ? "resume" : "suspend", "cancel"];
}

const TITLES: Record<Act, string> = {
  cancel: "Cancel",
  retry: "Retry what failed",
  replay: "Replay",
  suspend: "Suspend",
  resume: "Resume",
};

export function Acts({ run, namespace }: { run: RunRow; namespace: string }) {
  const [pending, setPending] = useState<Act | null>(null);
  const [error, setError] = useState<string | null>(null);
  const carryOut = async (act: Act): Promise<void> => {
    setPending(act);
    setError(null);
    try {
      await post(`${ofRun(namespace, run.name)}/acts`, { act });
    } catch (problem) {
      setError((problem as Error).message);
    }
    setPending(null);
  };
  return (
    <Group gap="xs">
      {actsFor(run).map((act) => (
        <Button
          key={act}
          size="xs"
          variant={act === "retry" ? "filled" : "default"}
          loading={pending === act}
          onClick={() => void carryOut(act)}
        >
          {TITLES[act]}
        </Button>
      ))}
      {error === null ? null : <Problem>{error}</Problem>}
    </Group>
  );
}
