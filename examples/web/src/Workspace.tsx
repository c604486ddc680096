import { useEffect, useEffectEvent, useState } from "react";
import { useMutation } from "urql";

import { useConnection } from "./adx/client";
import { messageOf } from "./adx/errors";
import { LogoutDocument } from "./adx/generated/graphql";
import { useNews } from "./adx/useNews";
import type { Operation } from "./adx/useOperation";
import type { Viewer } from "./App";
import { Files } from "./Files";
import { OnboardUser } from "./OnboardUser";
import { OperationCard } from "./OperationCard";
import { Logo, Menu } from "./parts";
import { TenantSwitcher } from "./TenantSwitcher";
import { sentence } from "./words";

/** `movedTo`: the tenant that the session is in, where another tab has switched it. */
type Props = { viewer: Viewer; movedTo?: string; reload: () => void; onSessionChange: () => void };

export function Workspace({ viewer, movedTo, reload, onSessionChange }: Props) {
  const [started, setStarted] = useState<readonly Operation[]>([]);
  useNews(reload);

  const { currentTenant: tenant, permissions } = viewer.tenantOverview;
  const listed = viewer.operations.nodes;
  const fresh = started.filter(({ id }) => listed.every((each) => each.id !== id));
  const start = (operation: Operation) => setStarted([operation, ...started]);

  return (
    <>
      <Header viewer={viewer} onSessionChange={onSessionChange} />
      <ConnectionBanner movedTo={movedTo} reload={reload} onContinue={onSessionChange} />
      <main className="workspace">
        <section className="welcome">
          <h1>Hello, {viewer.user.name.split(" ")[0]}</h1>
          <p className="muted">
            {sentence(tenant.role ?? "guest")} at <strong>{tenant.name}</strong>
          </p>
          <ul className="chips" aria-label="What this tenant has">
            <li>{sentence(tenant.subscriptionTier)} plan</li>
            {tenant.featureFlags.map(({ name, enabled }) => enabled && <li key={name}>{sentence(name)}</li>)}
          </ul>
        </section>
        <Files files={viewer.dashboard.recentFiles} may={permissions} onStarted={start} />
        {permissions.includes("users:onboard") && <OnboardUser onStarted={start} />}
        <section className="activity" aria-labelledby="activity">
          <header>
            <h2 id="activity">Activity</h2>
            <small>{viewer.operations.totalCount + fresh.length} in all</small>
          </header>
          <div className="card">
            {[...fresh, ...listed].map((operation) => (
              <OperationCard key={operation.id} initial={operation} onStarted={start} />
            ))}
            {!listed.length && !fresh.length && <p className="empty">What you start appears here, step by step.</p>}
          </div>
        </section>
      </main>
    </>
  );
}

function Header({ viewer, onSessionChange }: { viewer: Viewer; onSessionChange: () => void }) {
  const [{ error, fetching }, logOut] = useMutation(LogoutDocument);
  const initials = viewer.user.name.split(" ").map((word) => word[0]);
  return (
    <header className="top">
      <Logo />
      <TenantSwitcher overview={viewer.tenantOverview} onSwitched={onSessionChange} />
      <ConnectionPill />
      <Menu title={`Account of ${viewer.user.name}`} label={<span className="avatar">{initials}</span>}>
        <p>
          <strong>{viewer.user.name}</strong>
          <small>{viewer.user.email}</small>
        </p>
        {error && <p role="alert">{messageOf(error)}</p>}
        <button disabled={fetching} onClick={() => logOut({}).then((answer) => answer.error || onSessionChange())}>
          Sign out
        </button>
      </Menu>
    </header>
  );
}

function ConnectionPill() {
  const state = useConnection();
  const words = { idle: "Connecting", live: "Live", reconnecting: "Reconnecting", "signed-out": "Signed out", ended: "Offline" };
  return (
    <span className="pill" role="status" data-state={state}>
      {words[state]}
    </span>
  );
}

type BannerProps = { movedTo?: string; reload: () => void; onContinue: () => void };

function ConnectionBanner({ movedTo, reload, onContinue }: BannerProps) {
  const state = useConnection();
  const ask = useEffectEvent(reload);
  // A switch in another tab ends this tab's connection, too, shortly before the other tab has the new session's cookie.
  useEffect(() => {
    if (state !== "signed-out") return;
    const timers = [0, 1000, 3000].map((delay) => setTimeout(() => ask(), delay));
    return () => timers.forEach(clearTimeout);
  }, [state]);
  if (movedTo) {
    return (
      <p className="banner" role="alert" data-state="moved">
        You have switched to {movedTo} in another tab. Nothing is changed from here any more.
        <button onClick={onContinue}>Show {movedTo}</button>
      </p>
    );
  }
  if (state === "reconnecting") {
    return (
      <p className="banner" data-state={state}>
        The connection was lost. What is going on goes on, and appears here once it is back.
      </p>
    );
  }
  if (state !== "signed-out" && state !== "ended") return null;
  return (
    <p className="banner" role="alert" data-state={state}>
      {state === "signed-out" ? "Your session has ended." : "The gateway has closed the connection."}
      <button onClick={onContinue}>{state === "signed-out" ? "Sign in again" : "Connect again"}</button>
    </p>
  );
}
