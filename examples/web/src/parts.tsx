/** Small pieces that several parts of the page are made of. */
import { type FocusEvent, type KeyboardEvent, type ReactNode, useId } from "react";

export function Logo() {
  return (
    <span className="logo">
      <img src="/icon.svg" alt="" width="28" height="28" />
      ADX
    </span>
  );
}

/** A label, the control inside it, and what is wrong with what was entered. */
export function Field({ label, error, children }: { label: string; error?: string; children: ReactNode }) {
  const id = useId();
  return (
    <div className="field" data-wrong={error ? "" : undefined}>
      <label aria-describedby={error && id}>
        <span>{label}</span>
        {children}
      </label>
      {error && (
        <p role="alert" id={id}>
          {error}
        </p>
      )}
    </div>
  );
}

export function Bar({ label, value, tone }: { label: string; value: number; tone?: string }) {
  return <progress aria-label={label} max={1} value={value} data-tone={tone} />;
}

/** Opens by click or key, and closes when the focus leaves it or by Escape. */
export function Menu({ label, title, children }: { label: ReactNode; title: string; children: ReactNode }) {
  function leave(event: FocusEvent<HTMLDetailsElement>) {
    if (!event.currentTarget.contains(event.relatedTarget)) event.currentTarget.open = false;
  }
  function escape(event: KeyboardEvent<HTMLDetailsElement>) {
    if (event.key !== "Escape") return;
    event.currentTarget.open = false;
    event.currentTarget.querySelector("summary")?.focus();
  }
  return (
    <details className="menu" onBlur={leave} onKeyDown={escape}>
      <summary aria-label={title}>{label}</summary>
      <div className="card">{children}</div>
    </details>
  );
}
