// What a run's steps say, live.

import { Checkbox, Group, Stack, Text } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, useState } from "react";
import { ofRun } from "../api";
import { Nothing, Problem } from "./Text";

const LINE_HEIGHT = 19;

export function Logs({ namespace, name }: { namespace: string; name: string }) {
  const [withChildren, setWithChildren] = useState(false);
  const [follows, setFollows] = useState(true);
  const { lines, problems, isOver } = useLog(`${ofRun(namespace, name)}/logs?children=${withChildren}`);
  const scrolled = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scrolled.current,
    estimateSize: () => LINE_HEIGHT,
    overscan: 20,
  });
  useEffect(() => {
    if (follows && lines.length) virtual.scrollToIndex(lines.length - 1);
  }, [follows, lines.length, virtual]);
  return (
    <Stack gap="xs">
      <Group>
        <Checkbox
          label="Include runs below it"
          checked={withChildren}
          onChange={(event) => setWithChildren(event.currentTarget.checked)}
        />
        <Checkbox label="Follow" checked={follows} onChange={(event) => setFollows(event.currentTarget.checked)} />
        <Text size="sm" c="dimmed">
          {lines.length} lines{isOver ? "" : ", live"}
        </Text>
      </Group>
      {problems.map((problem) => (
        <Problem key={problem}>{problem}</Problem>
      ))}
      {isOver && !lines.length && !problems.length ? <Nothing>No log lines.</Nothing> : null}
      <div ref={scrolled} className="virtual log" tabIndex={0} role="log" aria-label="Log">
        <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {virtual.getVirtualItems().map((item) => (
            <div
              key={item.index}
              className="log-line"
              style={{ height: LINE_HEIGHT, transform: `translateY(${item.start}px)` }}
            >
              {lines[item.index]}
            </div>
          ))}
        </div>
      </div>
    </Stack>
  );
}

interface LogState {
  lines: string[];
  problems: string[];
  isOver: boolean;
}

function useLog(address: string): LogState {
  const [state, setState] = useState<LogState>({ lines: [], problems: [], isOver: false });
  useEffect(() => {
    setState({ lines: [], problems: [], isOver: false });
    const source = new EventSource(address);
    source.onmessage = (event: MessageEvent<string>) => {
      const message = JSON.parse(event.data) as { lines?: string[]; problem?: string };
      setState((before) => ({
        ...before,
        lines: message.lines ? [...before.lines, ...message.lines] : before.lines,
        problems: message.problem ? [...before.problems, message.problem] : before.problems,
      }));
    };
    const end = (): void => {
      source.close(); // or it would be opened again, and all lines would come twice
      setState((before) => ({ ...before, isOver: true }));
    };
    source.addEventListener("end", end);
    source.onerror = end;
    return () => source.close();
  }, [address]);
  return state;
}
