// What a view is asked to show stands in its address, so that it can be sent to a colleague.

import { useCallback } from "react";
import { useSearchParams } from "wouter";

export interface Filters {
  /** The address's part after the question mark: equal filters have equal texts. */
  query: string;
  get: (name: string) => string | null;
  change: (name: string, values: readonly string[] | string | null) => void;
}

export function useFilters(): Filters {
  const [asked, setAsked] = useSearchParams();
  const change = useCallback<Filters["change"]>(
    (name, values) =>
      setAsked((before) => {
        const after = new URLSearchParams(before);
        after.delete(name);
        for (const value of typeof values === "string" ? [values] : (values ?? []))
          if (value) after.append(name, value);
        return after;
      }),
    [setAsked],
  );
  return { query: asked.toString(), get: (name) => asked.get(name), change };
}
