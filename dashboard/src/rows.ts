// The rows of a namespace as they are now: the server sends what there is, and then every change.

import { createContext, useContext, useEffect, useState, useSyncExternalStore } from "react";
import { get, inNamespace } from "./api";
import type { PoolRow, RateLimitRow, Rights, RunRow, WorkflowRow } from "./types";

const REOPEN_MILLISECONDS = 3000;

interface Kinds {
  runs: RunRow;
  workflows: WorkflowRow;
  pools: PoolRow;
  rateLimits: RateLimitRow;
}
type Kind = keyof Kinds;

type Message = OfKind | { kind?: undefined; rights: Rights };
interface OfKind {
  kind: Kind;
  rows?: Kinds[Kind][];
  gone?: string[];
  isSynced?: boolean;
  withheld?: string;
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
  private source!: EventSource;
  private reopening: ReturnType<typeof setTimeout> | undefined;
  private seen = new Set<string>(); // since the stream was opened: what is not among it when all was sent, is gone
  private synced = new Set<Kind>();
  private withheld = new Map<Kind, string>();
  snapshot: Snapshot = {
    runs: [],
    workflows: [],
    pools: [],
    rateLimits: [],
    withheld: [],
    isSynced: false,
    isConnected: true,
  };

  constructor(readonly namespace: string) {
    this.open();
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  close(): void {
    clearTimeout(this.reopening);
    this.source.close();
  }

  private open(): void {
    this.source = new EventSource(`${inNamespace(this.namespace)}/rows`);
    this.source.onopen = () => {
      this.seen.clear();
      this.synced.clear();
      this.publish({ isConnected: true });
    };
    this.source.onerror = () => {
      this.publish({ isConnected: false });
      if (this.source.readyState !== EventSource.CLOSED) return; // it opens again by itself
      this.reopening = setTimeout(() => this.open(), REOPEN_MILLISECONDS); // after an answer that is none, it doesn't
      get(`${inNamespace(this.namespace)}/health`).catch(() => {}); // it may be that nobody is signed in any more
    };
    this.source.onmessage = (event: MessageEvent<string>) => this.take(JSON.parse(event.data) as Message);
  }

  private take(message: Message): void {
    if (message.kind === undefined) {
      this.publish({ rights: message.rights });
      return;
    }
    const map = this.maps[message.kind] as Map<string, Kinds[Kind]>;
    if (message.withheld !== undefined) {
      map.clear();
      this.withheld.set(message.kind, message.withheld);
      this.synced.add(message.kind); // nothing more of it will come
    } else this.withheld.delete(message.kind);
    for (const row of message.rows ?? []) {
      map.set(row.uid, row);
      this.seen.add(row.uid);
    }
    for (const uid of message.gone ?? []) map.delete(uid);
    if (message.isSynced) {
      if (!this.synced.has(message.kind)) for (const uid of map.keys()) if (!this.seen.has(uid)) map.delete(uid);
      this.synced.add(message.kind);
    }
    this.publish({
      [message.kind]: [...map.values()],
      withheld: [...this.withheld.values()],
      isSynced: this.synced.size === Object.keys(this.maps).length,
    });
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
  withheld: string[];
  rights?: Rights;
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
