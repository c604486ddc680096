/** Small pieces that several parts of the page are made of. */
import { type AriaAttributes, cloneElement, type FocusEvent, type KeyboardEvent, type ReactElement, type ReactNode, useId } from "react";

export function Logo() {
  return (
    <span className="logo">
      <img src="/icon.svg" alt="" width="28" height="28" />
      ADX
    </span>
  );
}

/** A label, the control inside it, and what is wrong with what was entered. */
export function Field(props: { label: string; error?: string; children: ReactElement<AriaAttributes> }) {
  const { label, error, children } = props;
  const id = useId();
  return (
    <div className="field">
      <label>
        <span>{label}</span>
        {error ? cloneElement(children, { "aria-invalid": true, "aria-describedby": id }) : children}
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
