import type { StepStatus } from "./adx/generated/graphql";
import { isClosed, type Operation } from "./adx/useOperation";
import { sentence, stepStatusOf } from "./words";

const MARKS: Partial<Record<StepStatus, string>> = {
  PENDING: "M8 8h.01",
  RUNNING: "M8 2.5a5.5 5.5 0 1 1-5.5 5.5",
  RETRYING: "M12.8 5.5A5.3 5.3 0 1 0 13.3 8M13 2.5v3.2h-3.2",
  COMPLETED: "m3.5 8.5 3 3 6-7",
  SKIPPED: "M4 8h8",
  FAILED: "m4 4 8 8m0-8-8 8",
  COMPENSATED: "M6 3 3 6l3 3M3 6h6.5a3.5 3.5 0 0 1 0 7H6",
  COMPENSATION_FAILED: "M8 3v6m0 3.5h.01",
};

/** Every step of an operation, in order: how it stands, at which try, and why the last try failed. */
export function Steps({ operation }: { operation: Operation }) {
  return (
    <ol className="steps" aria-label="Steps">
      {operation.progress.steps.map((step) => (
        <li key={step.name} data-status={step.status}>
          <svg viewBox="0 0 16 16" aria-hidden="true">
            <path d={MARKS[step.status] ?? MARKS.PENDING} />
          </svg>
          <span>{sentence(step.name)}</span>
          <small>
            {step.status === "PENDING" && isClosed(operation) ? "not begun" : stepStatusOf(step)}
            {step.attempt > 1 && ` · try ${step.attempt}`}
            {step.fraction !== null && step.status === "RUNNING" && ` · ${Math.round(step.fraction * 100)} %`}
          </small>
          {step.lastError && <p>{step.lastError}</p>}
        </li>
      ))}
    </ol>
  );
}
