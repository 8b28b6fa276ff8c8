// Durations, ages and JSON, as people read them.

import { useEffect, useState } from "react";
import type { RunRow, Time } from "./types";

export function duration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))}ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1).replace(/\.0$/, "")}s`;
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return parts(minutes, "m", Math.floor(seconds % 60), "s");
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return parts(hours, "h", minutes % 60, "m");
  return parts(Math.floor(hours / 24), "d", hours % 24, "h");
}

const parts = (large: number, largeUnit: string, small: number, smallUnit: string): string =>
  small ? `${large}${largeUnit}${small}${smallUnit}` : `${large}${largeUnit}`;

export const age = (time: Time | undefined, now: Time): string => (time === undefined ? "" : duration(now - time));

export const took = (run: RunRow, now: Time): string =>
  run.started === undefined ? "" : duration((run.finished ?? now) - run.started);

export const clock = (time: Time | string | null | undefined): string =>
  time === undefined || time === null ? "" : new Date(time).toLocaleString();

/** A time as the clocks of a zone show it; one that the browser doesn't know is UTC. */
export function clockIn(zone: string, time: Time): string {
  const how = { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" } as const;
  try {
    return `${new Date(time).toLocaleString(undefined, { ...how, timeZone: zone })} ${zone}`;
  } catch {
    return `${new Date(time).toLocaleString(undefined, { ...how, timeZone: "UTC" })} UTC`;
  }
}

/** How far away a time is that may be over. */
export const until = (time: Time, now: Time): string => (time > now ? `in ${duration(time - now)}` : "now");

/** A time for a field of the browser's, in the browser's zone, to the minute. */
export function localText(time: Time): string {
  const moment = new Date(time);
  return new Date(time - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** What tells a run from its siblings. */
export const label = (run: RunRow): string => {
  if (run.parent === undefined) return run.name;
  return run.key ?? `#${run.index ?? 0}`; // as the tree of the command line
};

export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** The time now, renewed each second: ages and bars of what runs move. */
export function useNow(): Time {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
