// The frame: which namespace, which page, and whether what is shown is what is.

import { ActionIcon, Alert, AppShell, Group, NavLink, Text, TextInput, useMantineColorScheme } from "@mantine/core";
import { useEffect, useState } from "react";
import { Link, Redirect, Route, Switch, useLocation, useSearchParams } from "wouter";
import { get, inNamespace, useLoaded } from "./api";
import { Overview } from "./pages/Overview";
import { Pools } from "./pages/Pools";
import { Run } from "./pages/Run";
import { Runs } from "./pages/Runs";
import { Workflow, Workflows } from "./pages/Workflows";
import { Nothing } from "./parts/Text";
import { RowsContext, useRowsOf } from "./rows";
import type { Rights } from "./types";

const PAGES = [
  { href: "/", title: "Overview" },
  { href: "/runs", title: "Runs" },
  { href: "/workflows", title: "Workflows" },
  { href: "/pools", title: "Pools and limits" },
] as const;
const NAMESPACE = "hatchet-namespace";
const HEALTH_MILLISECONDS = 5000;

export function App() {
  const { value: session } = useLoaded<{ namespace: string }>("/api/session");
  const [chosen, setChosen] = useState(() => sessionStorage.getItem(NAMESPACE));
  const namespace = chosen ?? session?.namespace;
  if (namespace === undefined) return null;
  const choose = (name: string): void => {
    sessionStorage.setItem(NAMESPACE, name);
    setChosen(name);
  };
  return <OfNamespace key={namespace} namespace={namespace} choose={choose} />;
}

function OfNamespace({ namespace, choose }: { namespace: string; choose: (name: string) => void }) {
  const rows = useRowsOf(namespace);
  const problem = useHealth(namespace);
  const [location] = useLocation();
  const { value: rights } = useLoaded<Rights>(`${inNamespace(namespace)}/rights`, location); // they may change
  return (
    <AppShell header={{ height: 48 }} navbar={{ width: 180, breakpoint: "sm" }} padding="md">
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between">
          <Text fw={700}>hatchet</Text>
          <Group gap="xs">
            <NamespaceField namespace={namespace} choose={choose} />
            <ColorScheme />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs">
        {PAGES.map(({ href, title }) => (
          <NavLink
            key={href}
            component={Link}
            href={href}
            label={title}
            active={href === "/" ? location === "/" : location.startsWith(href)}
          />
        ))}
      </AppShell.Navbar>
      <AppShell.Main>
        {problem === null ? null : (
          <Alert color="red" mb="md" title="What is shown may be old" role="alert">
            {problem}
          </Alert>
        )}
        {rows === null ? (
          <Nothing>…</Nothing>
        ) : (
          <RowsContext.Provider value={rows}>
            <Switch>
              <Route path="/" component={Overview} />
              <Route path="/runs" component={Runs} />
              <Route path="/runs/:name">
                <Run rights={rights} />
              </Route>
              <Route path="/workflows" component={Workflows} />
              <Route path="/workflows/:name">
                <Workflow rights={rights} />
              </Route>
              <Route path="/pools" component={Pools} />
              <Route>
                <Redirect to="/" />
              </Route>
            </Switch>
          </RowsContext.Provider>
        )}
      </AppShell.Main>
    </AppShell>
  );
}

function NamespaceField({ namespace, choose }: { namespace: string; choose: (name: string) => void }) {
  const [, setAsked] = useSearchParams();
  const [typed, setTyped] = useState(namespace);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        setAsked({});
        if (typed.trim()) choose(typed.trim());
      }}
    >
      <TextInput
        size="xs"
        aria-label="Namespace"
        leftSection="ns"
        value={typed}
        onChange={(event) => setTyped(event.currentTarget.value)}
      />
    </form>
  );
}

function ColorScheme() {
  const { colorScheme, toggleColorScheme } = useMantineColorScheme();
  return (
    <ActionIcon variant="default" onClick={toggleColorScheme} aria-label="Light or dark">
      {colorScheme === "dark" ? "☀" : "☾"}
    </ActionIcon>
  );
}

/** Say what is wrong while the server of the page, or the API server behind it, doesn't answer; null: nothing. */
function useHealth(namespace: string): string | null {
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    let isCurrent = true;
    const look = async (): Promise<void> => {
      const said = await get(`${inNamespace(namespace)}/health`).then(
        () => null,
        (error: Error) => (error instanceof TypeError ? "The command that serves this page has ended." : error.message),
      );
      if (isCurrent) setProblem(said);
    };
    void look();
    const timer = setInterval(() => document.hidden || void look(), HEALTH_MILLISECONDS);
    return () => {
      isCurrent = false;
      clearInterval(timer);
    };
  }, [namespace]);
  return problem;
}
