// A button that suspends what starts or goes on by itself, and resumes it.

import { Button } from "@mantine/core";
import { useState } from "react";
import { post } from "../api";
import { Problem } from "./Text";

export function Suspend({
  path,
  body = {},
  isSuspended,
  of,
}: {
  path: string;
  body?: Record<string, unknown>;
  isSuspended: boolean;
  of?: string; // what, if a page has several such buttons
}) {
  const [error, setError] = useState<string | null>(null);
  const title = isSuspended ? "Resume" : "Suspend";
  const change = (): void => {
    setError(null);
    post(path, { ...body, isWanted: !isSuspended }).catch((problem: Error) => setError(problem.message));
  };
  return (
    <>
      {error === null ? null : <Problem>{error}</Problem>}
      <Button
        size={of === undefined ? "xs" : "compact-xs"}
        variant="default"
        aria-label={of === undefined ? title : `${title} ${of}`}
        onClick={change}
      >
        {title}
      </Button>
    </>
  );
}
