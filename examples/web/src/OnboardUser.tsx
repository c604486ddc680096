import { type FormEvent, useState } from "react";
import { useMutation } from "urql";

import { byField, messageOf, wrongFields } from "./adx/errors";
import { OnboardUserDocument, type OnboardUserInput } from "./adx/generated/graphql";
import { type Operation, useOperation } from "./adx/useOperation";
import { Bar, Field } from "./parts";
import { statusOf } from "./words";

const EMPTY: OnboardUserInput = { name: "", email: "", password: "", role: "member", mfaEnabled: false };

export function OnboardUser({ onStarted }: { onStarted: (operation: Operation) => void }) {
  const [input, setInput] = useState(EMPTY);
  const [started, setStarted] = useState<Operation>();
  const [{ data, error, fetching }, start] = useMutation(OnboardUserDocument);
  const { operation, failure } = useOperation(started);
  // The mutation reports invalid fields at once; a step reports others, for instance an address in use.
  const wrong = byField([...wrongFields(error), ...(operation?.error?.fields ?? [])]);
  const set = (change: Partial<OnboardUserInput>) => setInput({ ...input, ...change });

  async function submit(event: FormEvent) {
    event.preventDefault();
    setStarted(undefined);
    const answer = await start({ input: { ...input, idempotencyKey: crypto.randomUUID() } });
    if (!answer.data) return;
    setStarted(answer.data.onboardUser.operation);
    onStarted(answer.data.onboardUser.operation);
  }

  return (
    <section className="onboard" aria-labelledby="onboard">
      <header>
        <h2 id="onboard">Onboard somebody</h2>
      </header>
      <form className="card" onSubmit={submit}>
        <Field label="Name" error={wrong.name}>
          <input autoComplete="off" required value={input.name} onChange={(event) => set({ name: event.target.value })} />
        </Field>
        <Field label="E-mail" error={wrong.email}>
          <input
            type="email"
            autoComplete="off"
            required
            value={input.email}
            onChange={(event) => set({ email: event.target.value })}
          />
        </Field>
        <Field label="Password" error={wrong.password}>
          <input
            type="password"
            autoComplete="new-password"
            minLength={8}
            required
            value={input.password}
            onChange={(event) => set({ password: event.target.value })}
          />
        </Field>
        <Field label="Role" error={wrong.role}>
          <select value={input.role} onChange={(event) => set({ role: event.target.value })}>
            <option value="member">Member</option>
            <option value="admin">Administrator</option>
            <option value="guest">Guest</option>
            <option value="owner">Owner</option>
          </select>
        </Field>
        <label className="check">
          <input
            type="checkbox"
            checked={input.mfaEnabled}
            onChange={(event) => set({ mfaEnabled: event.target.checked })}
          />
          With a second factor
        </label>
        <button className="primary" disabled={fetching}>
          Onboard
        </button>
        {error && Object.keys(wrong).length === 0 && <p role="alert">{messageOf(error)}</p>}
        {failure && <p role="alert">{failure}</p>}
        {operation && <Outcome operation={operation} totpUri={data?.onboardUser.totpUri} />}
      </form>
    </section>
  );
}

/** How far it is. The secret is in the answer to the very request that started it, and nowhere else. */
function Outcome({ operation, totpUri }: { operation: Operation; totpUri: string | null | undefined }) {
  const secret = totpUri && new URL(totpUri).searchParams.get("secret");
  return (
    <div className="outcome" role="status">
      <span>{operation.status === "COMPLETED" ? "They can sign in now." : statusOf(operation)}</span>
      <a href={`#${operation.id}`}>Each step</a>
      <Bar label="Onboarding: part done" value={operation.progress.fraction} tone={operation.status} />
      {secret && operation.status === "COMPLETED" && (
        <p>
          The secret of their second factor, shown only here: <code>{secret}</code>
        </p>
      )}
    </div>
  );
}
