// Runs that are to start at a time, and what can be done about them as far as the viewer's rights go.

import { Anchor, Button, Group, Stack, Table, Text, TextInput } from "@mantine/core";
import { useState } from "react";
import { Link } from "wouter";
import { ofRun, post, remove } from "../api";
import { clock, localText, until } from "../format";
import type { Rights, RunRow, Time } from "../types";
import { Dialog } from "./Dialog";
import { Problem } from "./Text";

export interface Asked {
  run: RunRow;
  act: "move" | "delete";
}

/** Whether a run waits for its time. */
export const isScheduled = (run: RunRow, now: Time): run is RunRow & { starts: Time } =>
  run.starts !== undefined && run.starts > now && run.phase === "Pending";

export function Scheduled({
  runs,
  titles,
  namespace,
  rights,
  now,
}: {
  runs: readonly (RunRow & { starts: Time })[];
  titles: ReadonlyMap<string, string>;
  namespace: string;
  rights: Rights | undefined;
  now: Time;
}) {
  const [asked, setAsked] = useState<Asked | null>(null);
  return (
    <>
      <Table aria-label="Scheduled runs">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Run</Table.Th>
            <Table.Th>Workflow</Table.Th>
            <Table.Th>Starts</Table.Th>
            {rights?.change || rights?.delete ? <Table.Th>Change</Table.Th> : null}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {runs.map((run) => (
            <Table.Tr key={run.uid}>
              <Table.Td>
                <Anchor component={Link} href={`/runs/${run.name}`} size="sm">
                  {run.name}
                </Anchor>
              </Table.Td>
              <Table.Td>{titles.get(run.workflow) ?? run.workflow}</Table.Td>
              <Table.Td>
                <Text size="sm">{until(run.starts, now)}</Text>
                <Text size="xs" c="dimmed">
                  {clock(run.starts)}
                </Text>
              </Table.Td>
              {rights?.change || rights?.delete ? (
                <Table.Td>
                  <Group gap="xs">
                    {rights.change ? (
                      <ActButton label={`Move ${run.name}`} onClick={() => setAsked({ run, act: "move" })}>
                        Move
                      </ActButton>
                    ) : null}
                    {rights.delete ? (
                      <ActButton label={`Delete ${run.name}`} onClick={() => setAsked({ run, act: "delete" })}>
                        Delete
                      </ActButton>
                    ) : null}
                  </Group>
                </Table.Td>
              ) : null}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <Dialog
        title={asked === null ? "" : `${asked.act === "move" ? "Move" : "Delete"} ${asked.run.name}`}
        isOpen={asked !== null}
        close={() => setAsked(null)}
      >
        {asked === null ? null : <Changing asked={asked} namespace={namespace} close={() => setAsked(null)} />}
      </Dialog>
    </>
  );
}

function ActButton({ label, onClick, children }: { label: string; onClick: () => void; children: string }) {
  return (
    <Button size="compact-xs" variant="default" aria-label={label} onClick={onClick}>
      {children}
    </Button>
  );
}

function Changing({ asked: { run, act }, namespace, close }: { asked: Asked; namespace: string; close: () => void }) {
  const [starts, setStarts] = useState(localText(run.starts ?? Date.now()));
  const [error, setError] = useState<string | null>(null);
  const path = ofRun(namespace, run.name);
  const carryOut = (): Promise<unknown> =>
    act === "move"
      ? post(`${path}/start`, { startAt: new Date(starts).toISOString() })
      : remove(`${path}?version=${encodeURIComponent(run.version)}`); // not if it has begun meanwhile
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        setError(null);
        carryOut().then(close, (problem: Error) => setError(problem.message));
      }}
    >
      <Stack>
        {act === "move" ? (
          <TextInput
            type="datetime-local"
            label="Starts at"
            description={`In this browser's time zone, ${Intl.DateTimeFormat().resolvedOptions().timeZone}`}
            value={starts}
            onChange={(event) => setStarts(event.currentTarget.value)}
            required
            data-autofocus
          />
        ) : (
          <Text size="sm">It has not started yet; once deleted, it never will.</Text>
        )}
        {error === null ? null : <Problem>{error}</Problem>}
        <Button type="submit" color={act === "delete" ? "red" : "teal"}>
          {act === "move" ? "Move" : "Delete"}
        </Button>
      </Stack>
    </form>
  );
}
