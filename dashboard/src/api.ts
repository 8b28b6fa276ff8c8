// Requests to the server of the page. Errors carry the sentence that the server, or Kubernetes, answered.

import { useEffect, useState } from "react";

export async function get<T>(path: string): Promise<T> {
  return answer<T>(await fetch(path, { headers: { Accept: "application/json" } }));
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return answer<T>(await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function answer<T>(response: Response): Promise<T> {
  const text = await response.text();
  if (response.ok) return JSON.parse(text) as T;
  let sentence = text.trim() || response.statusText;
  try {
    sentence = (JSON.parse(text) as { error?: string }).error ?? sentence;
  } catch {
    // it was not JSON: the text is what there is to say
  }
  throw new Error(sentence);
}

export const inNamespace = (namespace: string): string => `/api/namespaces/${encodeURIComponent(namespace)}`;
export const ofRun = (namespace: string, name: string): string =>
  `${inNamespace(namespace)}/runs/${encodeURIComponent(name)}`;

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
