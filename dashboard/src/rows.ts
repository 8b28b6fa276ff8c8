// The rows of a namespace as they are now: the server sends what there is, and then every change.

import { createContext, useContext, useEffect, useState, useSyncExternalStore } from "react";
import { inNamespace } from "./api";
import type { PoolRow, RateLimitRow, RunRow, WorkflowRow } from "./types";

interface Kinds {
  runs: RunRow;
  workflows: WorkflowRow;
  pools: PoolRow;
  rateLimits: RateLimitRow;
}
type Kind = keyof Kinds;

interface Message {
  kind: Kind;
  rows?: Kinds[Kind][];
  gone?: string[];
  isSynced?: boolean;
}

/** Everything of one namespace. A change makes a new `snapshot`, with new arrays for the kinds that changed alone. */
export class Rows {
  private maps: { [K in Kind]: Map<string, Kinds[K]> } = {
    runs: new Map(),
    workflows: new Map(),
    pools: new Map(),
    rateLimits: new Map(),
  };
  private listeners = new Set<() => void>();
  private source: EventSource;
  private seen = new Set<string>(); // since the stream was opened: what is not among it when all was sent, is gone
  private synced = new Set<Kind>();
  snapshot: Snapshot = { runs: [], workflows: [], pools: [], rateLimits: [], isSynced: false, isConnected: true };

  constructor(readonly namespace: string) {
    this.source = new EventSource(`${inNamespace(namespace)}/rows`);
    this.source.onopen = () => {
      this.seen.clear();
      this.synced.clear();
      this.publish({ isConnected: true });
    };
    this.source.onerror = () => this.publish({ isConnected: false }); // it opens again by itself
    this.source.onmessage = (event: MessageEvent<string>) => this.take(JSON.parse(event.data) as Message);
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  close(): void {
    this.source.close();
  }

  private take(message: Message): void {
    const map = this.maps[message.kind] as Map<string, Kinds[Kind]>;
    for (const row of message.rows ?? []) {
      map.set(row.uid, row);
      this.seen.add(row.uid);
    }
    for (const uid of message.gone ?? []) map.delete(uid);
    if (message.isSynced) {
      if (!this.synced.has(message.kind)) for (const uid of map.keys()) if (!this.seen.has(uid)) map.delete(uid);
      this.synced.add(message.kind);
    }
    this.publish({ [message.kind]: [...map.values()], isSynced: this.synced.size === Object.keys(this.maps).length });
  }

  private publish(change: Partial<Snapshot>): void {
    this.snapshot = { ...this.snapshot, ...change };
    for (const listener of this.listeners) listener();
  }
}

export interface Snapshot {
  runs: RunRow[];
  workflows: WorkflowRow[];
  pools: PoolRow[];
  rateLimits: RateLimitRow[];
  isSynced: boolean;
  isConnected: boolean;
}

export const RowsContext = createContext<Rows | null>(null);

export function useRows(): Snapshot & { namespace: string } {
  const rows = useContext(RowsContext);
  if (rows === null) throw new Error("rows are read inside of a namespace only");
  const snapshot = useSyncExternalStore(rows.subscribe, () => rows.snapshot);
  return { ...snapshot, namespace: rows.namespace };
}

export function useRowsOf(namespace: string): Rows | null {
  const [rows, setRows] = useState<Rows | null>(null);
  useEffect(() => {
    const opened = new Rows(namespace);
    setRows(opened);
    return () => opened.close();
  }, [namespace]);
  return rows?.namespace === namespace ? rows : null;
}
