import { Box, Button, Code, CopyButton, Group, Title, Text as Words } from "@mantine/core";
import type { ReactNode } from "react";

const LONGEST = 100_000; // characters; more would freeze the tab, and "copy" has all

/** What a user's program said or returned, as text and as nothing else. */
export function Block({ text, title, tone }: { text: string; title?: string; tone?: "error" }) {
  return (
    <Box>
      <Group justify="space-between" mb={4}>
        <Words size="sm" fw={600}>
          {title}
        </Words>
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Button
              variant="subtle"
              color="gray"
              size="compact-xs"
              onClick={copy}
              aria-label={`Copy ${title ?? "text"}`}
            >
              {copied ? "Copied" : "Copy"}
            </Button>
          )}
        </CopyButton>
      </Group>
      <Code block className="text-block" {...(tone === "error" ? { c: "red" } : {})} tabIndex={0}>
        {text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length} characters)` : text}
      </Code>
    </Box>
  );
}

export function Problem({ children }: { children: ReactNode }) {
  return (
    <Words c="red" role="alert" size="sm">
      {children}
    </Words>
  );
}

export function Nothing({ children }: { children: ReactNode }) {
  return (
    <Words c="dimmed" p="md">
      {children}
    </Words>
  );
}

/** A page about something that is not there: a heading, as each page has, and why. */
export function NotHere({ children }: { children: ReactNode }) {
  return (
    <>
      <Title order={1} size="h3">
        Not here
      </Title>
      <Nothing>{children}</Nothing>
    </>
  );
}
