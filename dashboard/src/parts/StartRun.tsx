import { Button, JsonInput, SegmentedControl, Select, Stack, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { lazy, type ReactNode, Suspense, useMemo, useState } from "react";
import { useLocation } from "wouter";
import { inNamespace, ofWorkflow, post, useLoaded } from "../api";
import { type Input, readSchema } from "../schema";
import type { WorkflowRow } from "../types";
import { Dialog } from "./Dialog";
import { Nothing, Problem } from "./Text";

const InputForm = lazy(() => import("./InputForm"));
type Shape = "form" | "json";

/** A button that asks for an input and starts a run. */
export function StartRun({ workflow, namespace }: { workflow: WorkflowRow; namespace: string }) {
  const [isOpen, { open, close }] = useDisclosure(false);
  return (
    <>
      <Button size="xs" onClick={open}>
        Start a run
      </Button>
      <Dialog title={`Start ${workflow.title}`} isOpen={isOpen} close={close}>
        <Asking workflow={workflow} namespace={namespace} />
      </Dialog>
    </>
  );
}

/** Asks in fields if the workflow says what it takes, and for JSON otherwise, or if that is preferred. */
function Asking({ workflow, namespace }: { workflow: WorkflowRow; namespace: string }) {
  const path = `${ofWorkflow(namespace, workflow.name)}/input-schema`;
  const { value, error: unread } = useLoaded<{ schema: string | null }>(path);
  const schema = useMemo(() => readSchema(value?.schema), [value]);
  const [preferred, setPreferred] = useState<Shape>("form");
  const [input, setInput] = useState<Input>({});
  const [text, setText] = useState("{}");
  const [priority, setPriority] = useState<string | null>(null);
  const [starts, setStarts] = useState("");
  const { start, isPending, error, setError } = useStart(workflow, namespace, { priority, starts });
  if (value === undefined && unread === undefined) return <Nothing>…</Nothing>;
  const shape = schema === null ? "json" : preferred;

  const change = (wanted: Shape): void => {
    setError(null);
    if (wanted === "json") setText(JSON.stringify(input, null, 2));
    const read = wanted === "form" ? readObject(text) : input;
    if (typeof read === "string") {
      setError(read);
      return;
    }
    setInput(read);
    setPreferred(wanted);
  };
  const startFromText = (): void => {
    const read = readObject(text);
    if (typeof read === "string") setError(read);
    else void start(read);
  };
  const rest = (
    <Stack mt="md">
      <Priority value={priority} onChange={setPriority} />
      <TextInput
        type="datetime-local"
        label="Starts at"
        description="Empty: at once"
        value={starts}
        onChange={(event) => setStarts(event.currentTarget.value)}
      />
      {error === null ? null : <Problem>{error}</Problem>}
      <Button type="submit" loading={isPending}>
        Start
      </Button>
    </Stack>
  );
  return (
    <Stack>
      {schema === null ? null : (
        <SegmentedControl
          aria-label="Written as"
          value={shape}
          onChange={(wanted) => change(wanted as Shape)}
          data={[
            { value: "form", label: "Fields" },
            { value: "json", label: "JSON" },
          ]}
        />
      )}
      {schema !== null && shape === "form" ? (
        <Suspense fallback={<Nothing>…</Nothing>}>
          <InputForm schema={schema} input={input} onChange={setInput} onStart={(given) => void start(given)}>
            {rest}
          </InputForm>
        </Suspense>
      ) : (
        <Json text={text} setText={setText} onStart={startFromText}>
          {rest}
        </Json>
      )}
    </Stack>
  );
}

function Json({
  text,
  setText,
  onStart,
  children,
}: {
  text: string;
  setText: (text: string) => void;
  onStart: () => void;
  children: ReactNode;
}) {
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onStart();
      }}
    >
      <JsonInput
        label="Input"
        description="A JSON object"
        value={text}
        onChange={setText}
        autosize
        minRows={6}
        maxRows={24}
        data-autofocus
      />
      {children}
    </form>
  );
}

function Priority({ value, onChange }: { value: string | null; onChange: (value: string | null) => void }) {
  return (
    <Select
      label="Priority"
      placeholder="the workflow's"
      data={[
        { value: "1", label: "1, low" },
        { value: "2", label: "2, medium" },
        { value: "3", label: "3, high" },
      ]}
      value={value}
      onChange={onChange}
      clearable
    />
  );
}

function useStart(
  workflow: WorkflowRow,
  namespace: string,
  { priority, starts }: { priority: string | null; starts: string },
) {
  const [error, setError] = useState<string | null>(null);
  const [isPending, setIsPending] = useState(false);
  const [, goTo] = useLocation();
  const start = async (input: Input): Promise<void> => {
    setError(null);
    setIsPending(true);
    try {
      const body = {
        workflow: workflow.name,
        input,
        ...(priority ? { priority: Number(priority) } : {}),
        ...(starts ? { startAt: new Date(starts).toISOString() } : {}),
      };
      const { name } = await post<{ name: string }>(`${inNamespace(namespace)}/runs`, body);
      goTo(`/runs/${name}`);
    } catch (problem) {
      setError((problem as Error).message);
      setIsPending(false);
    }
  };
  return { start, isPending, error, setError };
}

/** Read an input; a sentence says why it is none. */
function readObject(text: string): Input | string {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch (problem) {
    return `The input is no JSON: ${(problem as Error).message}`;
  }
  if (typeof given === "object" && given !== null && !Array.isArray(given)) return given as Input;
  return "The input is not an object; expected one such as {}";
}
