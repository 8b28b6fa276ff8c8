// Requests to the server of the page. Errors carry the sentence that the server, or Kubernetes, answered.

import { useEffect, useState } from "react";

export async function get<T>(path: string): Promise<T> {
  return answer<T>(await fetch(path, { headers: { Accept: "application/json" } }));
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return answer<T>(await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

export async function remove(path: string): Promise<void> {
  await answer(await fetch(path, { method: "DELETE" }));
}

/** What is told to the window when the server wants somebody to sign in; its detail is the sentence that says why. */
export const SIGNED_OUT = "hatchet-signed-out";

export class Refusal extends Error {
  constructor(
    readonly status: number,
    sentence: string,
  ) {
    super(sentence);
  }
}

async function answer<T>(response: Response): Promise<T> {
  const text = await response.text();
  if (response.ok) return JSON.parse(text) as T;
  const answered =
    response.status === 401
      ? "You are no longer signed in."
      : `The server answered ${response.status}, without a message.`;
  let sentence = text.trim() || answered;
  try {
    sentence = (JSON.parse(text) as { error?: string }).error ?? answered; // a proxy in front has no sentence
  } catch {
    // it was not JSON: the text is what there is to say
  }
  if (response.status === 401) window.dispatchEvent(new CustomEvent(SIGNED_OUT, { detail: sentence }));
  throw new Refusal(response.status, sentence);
}

export const inNamespace = (namespace: string): string => `/api/namespaces/${encodeURIComponent(namespace)}`;
export const ofRun = (namespace: string, name: string): string =>
  `${inNamespace(namespace)}/runs/${encodeURIComponent(name)}`;
export const ofWorkflow = (namespace: string, name: string): string =>
  `${inNamespace(namespace)}/workflows/${encodeURIComponent(name)}`;

export interface Loaded<T> {
  value?: T;
  error?: string;
}

/** Get what is at a path, and again whenever `trigger` changes; what was there stays shown meanwhile. */
export function useLoaded<T>(path: string | null, trigger: unknown = null): Loaded<T> {
  const [found, setFound] = useState<({ path: string } & Loaded<T>) | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the trigger is there to trigger
  useEffect(() => {
    if (path === null) return;
    let isCurrent = true;
    get<T>(path).then(
      (value) => isCurrent && setFound({ path, value }),
      (error: Error) => isCurrent && setFound({ path, error: error.message }),
    );
    return () => {
      isCurrent = false;
    };
  }, [path, trigger]);
  return found === null || found.path !== path ? {} : found;
}
