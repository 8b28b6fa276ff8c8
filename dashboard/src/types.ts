// What the server sends: rows are made in cli/hatchet_cli/dashboard/rows.py, the rest in handlers.py.

export type Phase = "Pending" | "Running" | "Succeeded" | "Failed" | "Cancelled";
export const PHASES: readonly Phase[] = ["Failed", "Running", "Pending", "Cancelled", "Succeeded"];
export const isFinal = (phase: Phase): boolean => phase !== "Pending" && phase !== "Running";

/** A time in milliseconds since 1970, UTC. */
export type Time = number;

export interface RunRow {
  uid: string;
  version: string;
  name: string;
  workflow: string;
  phase: Phase;
  reason?: string;
  created?: Time;
  started?: Time;
  finished?: Time;
  starts?: Time;
  parent?: string;
  parentName?: string;
  step?: string;
  key?: string;
  index?: number;
  children?: number;
  groups?: string[];
  suspended?: boolean;
  metadata?: Record<string, string>;
}

export interface Condition {
  type: string;
  status: "True" | "False" | "Unknown";
  reason?: string;
  message?: string;
}

export interface StepRow {
  name: string;
  parents?: string[];
  timeout?: string;
  retries?: number;
}

/** A schedule of a workflow: a person's or its code's. */
export interface CronRow {
  schedule: string;
  zone: string;
  suspended?: boolean;
  overlap: "Allow" | "Forbid" | "Replace";
  catchUp: "Skip" | "Last" | "All";
  lastTick?: Time;
  lastRun?: string;
  nextTick?: Time;
  message?: string;
}

/** A concurrency group with unfinished runs; of many runs only the first are named. */
export interface GroupRow {
  expression: string;
  key: string;
  active: number;
  waiting: number;
  most?: number;
  activeRuns?: string[];
  waitingRuns?: string[];
}

export interface WorkflowRow {
  uid: string;
  name: string;
  title: string;
  description?: string;
  version?: string;
  pool?: string;
  workers?: number;
  suspended?: boolean;
  steps: StepRow[];
  onFailure?: StepRow;
  lastTick?: Time;
  nextTick?: Time;
  waiting?: number;
  crons?: CronRow[];
  groups?: GroupRow[];
  groupCount?: number;
  conditions: Condition[];
}

export interface PoolRow {
  uid: string;
  name: string;
  replicas: number;
  ready: number;
  desired: number;
  least: number;
  most: number;
  slots: number;
  running: number;
  queued?: number;
  oldest?: Time;
  conditions: Condition[];
}

export interface RateLimitRow {
  uid: string;
  name: string;
  key: string;
  limit: number;
  window: string;
  used?: number;
  waiting?: number;
  waitingRuns?: string[];
  refills?: Time;
  conditions: Condition[];
}

export interface PodRow {
  uid: string;
  name: string;
  node?: string;
  phase?: string;
  isReady: boolean;
  trouble?: string;
}

export interface StepStatus {
  phase: Phase;
  attempt?: number;
  worker?: string;
  startedAt?: string;
  finishedAt?: string;
  retryAt?: string;
  reason?: string;
  error?: string;
  output?: string;
}

/** A WorkflowRun as the API server has it, as far as the page reads it. */
export interface RunObject {
  metadata: { name: string; uid: string; namespace: string };
  spec: { input?: unknown; inputJson?: string; additionalMetadata?: Record<string, unknown>; priority?: number };
  status?: { phase?: Phase; reason?: string; message?: string; reruns?: number; steps?: Record<string, StepStatus> };
}

export interface FailedStep {
  run: string;
  workflow: string;
  step: string | null;
  attempt: number | null;
  headline: string;
  text: string;
}

export interface Why {
  failure?: { path: FailedStep[]; others: FailedStep[] };
  findings?: { words: string; runs: string[] }[];
  around?: string[];
}

export interface KubernetesEvent {
  uid: string;
  type: string;
  reason: string;
  message: string;
  count: number | null;
  last: string | null;
}

export interface Rights {
  start: boolean;
  change: boolean;
  delete: boolean;
  changeWorkflows: boolean;
  pods: boolean;
  logs: boolean;
}

/** Who looks; without a user it is whoever started the command. */
export interface Session {
  namespace: string;
  user: string | null;
  signsOut: boolean;
}

export type Act = "cancel" | "retry" | "replay" | "suspend" | "resume";
