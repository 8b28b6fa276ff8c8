// The frame: which namespace, which page, and whether what is shown is what is.

import {
  ActionIcon,
  Alert,
  AppShell,
  Autocomplete,
  Button,
  Group,
  NavLink,
  Text,
  useMantineColorScheme,
} from "@mantine/core";
import { useEffect, useState } from "react";
import { Link, Redirect, Route, Switch, useLocation, useSearchParams } from "wouter";
import { get, inNamespace, post, SIGNED_OUT, useLoaded } from "./api";
import { Limits } from "./pages/Limits";
import { Overview } from "./pages/Overview";
import { Pools } from "./pages/Pools";
import { Run } from "./pages/Run";
import { Runs } from "./pages/Runs";
import { Schedules } from "./pages/Schedules";
import { SignIn } from "./pages/SignIn";
import { Workflow, Workflows } from "./pages/Workflows";
import { Nothing } from "./parts/Text";
import { RowsContext, useRows, useRowsOf } from "./rows";
import type { Session } from "./types";

const PAGES = [
  { href: "/", title: "Overview" },
  { href: "/runs", title: "Runs" },
  { href: "/workflows", title: "Workflows" },
  { href: "/schedules", title: "Schedules" },
  { href: "/pools", title: "Pools" },
  { href: "/limits", title: "Limits" },
] as const;
const NAMESPACE = "hatchet-namespace";
const HEALTH_MILLISECONDS = 5000;

export function App() {
  const [signedOut, setSignedOut] = useState<string | null>(null);
  const { value: session } = useLoaded<Session>("/api/session", signedOut);
  useEffect(() => {
    const note = (event: Event): void => setSignedOut((event as CustomEvent<string>).detail);
    window.addEventListener(SIGNED_OUT, note);
    return () => window.removeEventListener(SIGNED_OUT, note);
  }, []);
  const [chosen, setChosen] = useState(() => sessionStorage.getItem(NAMESPACE));
  if (signedOut !== null) return <SignIn reason={signedOut} signedIn={() => setSignedOut(null)} />;
  if (session === undefined) return null;
  const namespace = chosen ?? session.namespace;
  const choose = (name: string): void => {
    sessionStorage.setItem(NAMESPACE, name);
    setChosen(name);
  };
  return <OfNamespace key={namespace} namespace={namespace} session={session} choose={choose} />;
}

interface Place {
  namespace: string;
  session: Session;
  choose: (name: string) => void;
}

function OfNamespace({ namespace, session, choose }: Place) {
  const rows = useRowsOf(namespace);
  const problem = useHealth(namespace);
  const [location] = useLocation();
  return (
    <AppShell header={{ height: 48 }} navbar={{ width: 180, breakpoint: "sm" }} padding="md">
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between">
          <Text fw={700}>hatchet</Text>
          <Group gap="xs">
            {session.user ? <Text size="xs">{session.user}</Text> : null}
            {session.signsOut ? <SignOut /> : null}
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
          <Alert color="red" mb="md" title="This may be out of date" role="alert">
            {problem}
          </Alert>
        )}
        {rows === null ? (
          <Nothing>…</Nothing>
        ) : (
          <RowsContext.Provider value={rows}>
            <Views />
          </RowsContext.Provider>
        )}
      </AppShell.Main>
    </AppShell>
  );
}

function Views() {
  const { rights, withheld } = useRows();
  return (
    <>
      {withheld.length === 0 ? null : (
        <Alert color="yellow" mb="md" title="Not everything is shown" role="status">
          {withheld.map((why) => (
            <Text key={why} size="sm">
              {why}
            </Text>
          ))}
        </Alert>
      )}
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
        <Route path="/schedules">
          <Schedules rights={rights} />
        </Route>
        <Route path="/pools">
          <Pools rights={rights} />
        </Route>
        <Route path="/limits" component={Limits} />
        <Route>
          <Redirect to="/" />
        </Route>
      </Switch>
    </>
  );
}

function SignOut() {
  const signOut = async (): Promise<void> => {
    await post("/api/session/end", {});
    window.location.assign("/");
  };
  return (
    <Button size="compact-xs" variant="default" onClick={() => void signOut()}>
      Sign out
    </Button>
  );
}

function NamespaceField({ namespace, choose }: { namespace: string; choose: (name: string) => void }) {
  const [, setAsked] = useSearchParams();
  const [typed, setTyped] = useState(namespace);
  const { value: known } = useLoaded<string[]>("/api/namespaces");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        setAsked({});
        if (typed.trim()) choose(typed.trim());
      }}
    >
      <Autocomplete
        size="xs"
        aria-label="Namespace"
        leftSection="ns"
        data={known ?? []}
        value={typed}
        onChange={setTyped}
        onOptionSubmit={(name) => {
          setAsked({});
          choose(name);
        }}
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
        (error: Error) =>
          error instanceof TypeError ? "The command that serves this page has exited." : error.message,
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
