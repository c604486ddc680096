import { useRef, useState } from "react";
import { useMutation } from "urql";

import { messageOf } from "./adx/errors";
import { SwitchTenantDocument } from "./adx/generated/graphql";
import { isClosed, type Operation, useOperation } from "./adx/useOperation";
import type { Viewer } from "./App";
import { Bar, Menu } from "./parts";
import { Steps } from "./Steps";
import { sentence } from "./words";

type Props = { overview: Viewer["tenantOverview"]; onSwitched: () => void };

const MOST_TRIES = 7;
const LATE = "The switch takes longer than usual, and goes on. You can work here until it is done.";

export function TenantSwitcher({ overview, onSwitched }: Props) {
  const { currentTenant, availableTenants } = overview;
  const dialog = useRef<HTMLDialogElement>(null);
  const [target, setTarget] = useState("");
  const [started, setStarted] = useState<Operation>();
  const [{ error }, ask] = useMutation(SwitchTenantDocument);
  const [isLate, setLate] = useState(false);
  // If the operation cannot be followed, the request below still waits for its end.
  const { operation } = useOperation(started);
  const isOver = isLate || error || (operation && isClosed(operation) && operation.status !== "COMPLETED");

  async function switchTo(tenant: { id: string; name: string }) {
    setTarget(tenant.name);
    setStarted(undefined);
    setLate(false);
    dialog.current?.showModal();
    // Asked at once for its id, to show its steps; then again, with the same key, for its end: that answer brings the
    // new session's cookie, and it does so even where the old session has ended by then.
    const input = { tenantId: tenant.id, idempotencyKey: crypto.randomUUID() };
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const waitSeconds = tries ? 10 : 0;
      const { data } = await ask({ input: { ...input, waitSeconds } });
      if (!data) return;
      setStarted(data.switchTenant.operation);
      if (waitSeconds && data.switchTenant.operation.status === "COMPLETED") return onSwitched();
      if (waitSeconds && isClosed(data.switchTenant.operation)) return;
    }
    setLate(true);
  }

  return (
    <>
      <Menu title={`Tenant: ${currentTenant.name}`} label={<span className="tenant">{currentTenant.name}</span>}>
        {availableTenants.map((tenant) => (
          <button
            key={tenant.id}
            aria-current={tenant.id === currentTenant.id}
            disabled={tenant.id === currentTenant.id}
            onClick={() => switchTo(tenant)}
          >
            {tenant.name} <small>{sentence(tenant.role ?? "")}</small>
          </button>
        ))}
      </Menu>
      <dialog ref={dialog} className="card" aria-labelledby="switching">
        <h2 id="switching">To {target}</h2>
        <Bar label="Tenant switch: part done" value={operation?.progress.fraction ?? 0} tone={operation?.status} />
        {operation && <Steps operation={operation} />}
        {isOver && (
          <>
            <p role="alert">{error ? messageOf(error) : (operation?.error?.message ?? LATE)}</p>
            <button onClick={() => dialog.current?.close()}>Stay at {currentTenant.name}</button>
          </>
        )}
      </dialog>
    </>
  );
}
