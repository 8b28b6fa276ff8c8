import { Button, JsonInput, Modal, Select, Stack } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useState } from "react";
import { useLocation } from "wouter";
import { inNamespace, post } from "../api";
import type { WorkflowRow } from "../types";
import { Problem } from "./Text";

/** A button that asks for an input and starts a run. */
export function StartRun({ workflow, namespace }: { workflow: WorkflowRow; namespace: string }) {
  const [isOpen, { open, close }] = useDisclosure(false);
  const [input, setInput] = useState("{}");
  const [priority, setPriority] = useState<string | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [isPending, setIsPending] = useState(false);
  const [, goTo] = useLocation();
  const start = async (): Promise<void> => {
    setError(null);
    let given: unknown;
    try {
      given = JSON.parse(input);
    } catch (problem) {
      setError(`The input is no JSON: ${(problem as Error).message}`);
      return;
    }
    if (typeof given !== "object" || given === null || Array.isArray(given)) {
      setError("The input is no object; expected one such as {}");
      return;
    }
    setIsPending(true);
    try {
      const body = { workflow: workflow.name, input: given, ...(priority ? { priority: Number(priority) } : {}) };
      const { name } = await post<{ name: string }>(`${inNamespace(namespace)}/runs`, body);
      close();
      goTo(`/runs/${name}`);
    } catch (problem) {
      setError((problem as Error).message);
    }
    setIsPending(false);
  };
  return (
    <>
      <Button size="xs" onClick={open}>
        Start a run
      </Button>
      <Modal
        opened={isOpen}
        onClose={close}
        title={`Start ${workflow.title}`}
        size="lg"
        closeButtonProps={{ "aria-label": "Close" }}
      >
        <Stack>
          <JsonInput
            label="Input"
            description="A JSON object"
            value={input}
            onChange={setInput}
            autosize
            minRows={6}
            maxRows={24}
            data-autofocus
          />
          <Select
            label="Priority"
            placeholder="the workflow's"
            data={[
              { value: "1", label: "1, low" },
              { value: "2", label: "2, medium" },
              { value: "3", label: "3, high" },
            ]}
            value={priority}
            onChange={setPriority}
            clearable
          />
          {error === null ? null : <Problem>{error}</Problem>}
          <Button onClick={() => void start()} loading={isPending}>
            Start
          </Button>
        </Stack>
      </Modal>
    </>
  );
}
