import { type FormEvent, useState } from "react";
import { useMutation } from "urql";

import { codeOf, messageOf } from "./adx/errors";
import { LoginDocument, type LoginInput, SubmitMfaCodeDocument } from "./adx/generated/graphql";
import { isClosed, type Operation, useOperation } from "./adx/useOperation";
import { Steps } from "./Steps";
import { Field, Logo } from "./parts";

const DEMO = [
  { name: "Ada", role: "administrator", email: "ada@example.com" },
  { name: "Grace", role: "member", email: "grace@example.com" },
  { name: "Alan", role: "second factor", email: "alan@example.com" },
];
const DEMO_PASSWORD = "adx-demo-password";
const DEMO_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

const MOST_TRIES = 6; // of ten seconds each

export function SignIn({ onSignedIn }: { onSignedIn: () => void }) {
  const [input, setInput] = useState<LoginInput>({ email: "", password: "" });
  const [login, setLogin] = useState<Operation>();
  const [failure, setFailure] = useState("");
  const [{ fetching }, start] = useMutation(LoginDocument);

  async function signIn(asked: LoginInput) {
    setFailure("");
    // Sent again with the same key, a login is the same login: if its answer is lost, or it takes longer than a request.
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const { data, error } = await start({ input: asked });
      if (error) return setFailure(messageOf(error));
      const { operation } = data!.login;
      if (operation.status === "COMPLETED") return onSignedIn(); // the answer that says so brought the cookie
      if (operation.status !== "RUNNING") return setLogin(operation);
    }
    setFailure("Signing in takes longer than usual. Try again in a moment.");
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    const asked = { ...input, idempotencyKey: crypto.randomUUID() };
    setInput(asked);
    void signIn(asked);
  }

  return (
    <main className="sign-in">
      <header>
        <Logo />
        <h1>Sign in</h1>
        <p className="muted">Follow every operation, step by step.</p>
      </header>
      {login ? (
        <SecondFactor login={login} onDone={() => signIn(input)} onBack={() => setLogin(undefined)} />
      ) : (
        <form className="card" onSubmit={submit}>
          <Field label="E-mail">
            <input
              type="email"
              autoComplete="username"
              required
              autoFocus
              value={input.email}
              onChange={(event) => setInput({ ...input, email: event.target.value })}
            />
          </Field>
          <Field label="Password">
            <input
              type="password"
              autoComplete="current-password"
              required
              value={input.password}
              onChange={(event) => setInput({ ...input, password: event.target.value })}
            />
          </Field>
          {failure && <p role="alert">{failure}</p>}
          <button className="primary" disabled={fetching}>
            {fetching ? "Signing in…" : "Sign in"}
          </button>
        </form>
      )}
      {!login && (
        <section className="demo" aria-label="Demo accounts">
          <p className="muted">Demo accounts</p>
          <div>
            {DEMO.map(({ name, role, email }) => (
              <button key={email} type="button" onClick={() => setInput({ email, password: DEMO_PASSWORD })}>
                <strong>{name}</strong>
                <span>{role}</span>
              </button>
            ))}
          </div>
          <p className="muted">
            Secret of Alan’s authenticator: <code>{DEMO_SECRET}</code>
          </p>
        </section>
      )}
    </main>
  );
}

/** Asks for the code of a login that waits, and follows the login: it may time out or fail after too many codes. */
function SecondFactor(props: { login: Operation; onDone: () => void; onBack: () => void }) {
  const { operation: login, failure } = useOperation(props.login);
  const [code, setCode] = useState("");
  const [{ fetching, error }, send] = useMutation(SubmitMfaCodeDocument);
  const challenge = "challenge" in login ? login.challenge : null;

  async function submit(event: FormEvent) {
    event.preventDefault();
    const { data, error } = await send({ input: { operationId: login.id, code } });
    setCode("");
    // CONFLICT: no code is awaited any more, for it was taken already and only the answer was lost.
    if (data || codeOf(error) === "CONFLICT") props.onDone();
  }

  return (
    <form className="card" onSubmit={submit}>
      {isClosed(login) ? (
        <p role="alert">{login.error?.message ?? "Signed in."}</p>
      ) : (
        <>
          <Field label="Code from your authenticator" error={error && messageOf(error)}>
            <input
              className="code"
              inputMode="numeric"
              autoComplete="one-time-code"
              pattern="[0-9]{6}"
              maxLength={6}
              required
              autoFocus
              value={code}
              onChange={(event) => setCode(event.target.value)}
            />
          </Field>
          {failure && <p role="alert">{failure}</p>}
          {challenge && <p className="muted">{challenge.attemptsLeft} tries left</p>}
          <button className="primary" disabled={fetching}>
            {fetching ? "Checking…" : "Continue"}
          </button>
        </>
      )}
      <button type="button" className="quiet" onClick={props.onBack}>
        Back
      </button>
      <Steps operation={login} />
    </form>
  );
}
