import { useMemo, useState } from "react";
import { useQuery } from "urql";

import { AdxProvider, createAdx } from "./adx/client";
import { DashboardDocument, type DashboardQuery } from "./adx/generated/graphql";
import { SignIn } from "./SignIn";
import { Workspace } from "./Workspace";

export type Viewer = NonNullable<DashboardQuery["viewer"]>;

export function App() {
  const [session, setSession] = useState(0);
  const adx = useMemo(() => createAdx(), [session]);

  /** Another session begins: nothing of the last one stays, neither its socket nor what was shown. */
  function renew() {
    adx.connection.dispose();
    setSession(session + 1);
  }

  return (
    <AdxProvider adx={adx} key={session}>
      <Session onChange={renew} display={adx.display} />
    </AdxProvider>
  );
}

type SessionProps = { onChange: () => void; display: (tenantId: string) => void };

function Session({ onChange, display }: SessionProps) {
  const [{ data, error }, ask] = useQuery({ query: DashboardDocument });
  const [viewer, setViewer] = useState<Viewer>();
  const answered = data?.viewer ?? undefined;
  // All tabs share the session. If another tab switches its tenant, this one keeps showing the former tenant.
  const movedTo = viewer && answered && tenantOf(answered).id !== tenantOf(viewer).id ? tenantOf(answered).name : undefined;
  if (answered && answered !== viewer && !movedTo) {
    display(tenantOf(answered).id);
    setViewer(answered);
  }

  // Once somebody is signed in, a later answer without them (the session ended, a service is away) takes nothing off
  // the page: the connection says what is the matter.
  if (viewer) return <Workspace viewer={viewer} movedTo={movedTo} reload={ask} onSessionChange={onChange} />;
  // A viewer who is null beside an error is not signed out: their tenants could not be read just now.
  if (error) return <Unreachable onRetry={ask} />;
  return data ? <SignIn onSignedIn={onChange} /> : <main className="blank" aria-busy="true" aria-label="Loading" />;
}

const tenantOf = (viewer: Viewer) => viewer.tenantOverview.currentTenant;

function Unreachable({ onRetry }: { onRetry: () => void }) {
  return (
    <main className="blank">
      <h1>The gateway does not answer</h1>
      <p className="muted">
        In development <code>make dev</code> starts it.
      </p>
      <button className="primary" onClick={onRetry}>
        Try again
      </button>
    </main>
  );
}
