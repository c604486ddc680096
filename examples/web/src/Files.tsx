import { type ChangeEvent, type DragEvent, useState } from "react";
import { useMutation } from "urql";

import { messageOf } from "./adx/errors";
import { CompleteUploadDocument, CreateUploadDocument, ProcessFileDocument } from "./adx/generated/graphql";
import { sendBytes } from "./adx/sendBytes";
import { isClosed, type Operation, useOperation } from "./adx/useOperation";
import type { Viewer } from "./App";
import { Bar } from "./parts";
import { ago, bytes } from "./words";

type StoredFile = NonNullable<Viewer["dashboard"]["recentFiles"]>[number];
type Props = {
  files: readonly StoredFile[] | null;
  may: readonly string[];
  onStarted: (operation: Operation) => void;
};

export function Files({ files, may, onStarted }: Props) {
  return (
    <section className="files" aria-labelledby="files">
      <header>
        <h2 id="files">Files</h2>
      </header>
      <div className="card">
        {may.includes("files:write") && <Upload onStarted={onStarted} />}
        {files?.length ? (
          <ul>
            {files.map((file) => (
              <FileRow key={file.id} file={file} mayProcess={may.includes("files:process")} onStarted={onStarted} />
            ))}
          </ul>
        ) : (
          <p className="empty">{files ? "No files yet." : "The files cannot be read just now."}</p>
        )}
      </div>
    </section>
  );
}

/** First the bytes go up; then an operation makes a file of them. One bar for both, and words that say which. */
function Upload({ onStarted }: { onStarted: (operation: Operation) => void }) {
  const [name, setName] = useState("");
  const [sent, setSent] = useState(0);
  const [started, setStarted] = useState<Operation>();
  const [uploadFailure, setUploadFailure] = useState("");
  const [, create] = useMutation(CreateUploadDocument);
  const [, complete] = useMutation(CompleteUploadDocument);
  const { operation, failure: followFailure } = useOperation(started);
  const failure = uploadFailure || followFailure || operation?.error?.message;
  const isBusy = name !== "" && !failure && !(operation && isClosed(operation));

  async function upload(file: File) {
    setName(file.name);
    setSent(0);
    setStarted(undefined);
    setUploadFailure("");
    try {
      const contentType = file.type || "application/octet-stream";
      const created = await create({ input: { name: file.name, contentType, size: file.size } });
      if (created.error) throw new Error(messageOf(created.error));
      const target = created.data!.createUpload.upload;
      await sendBytes(target, file, setSent);
      const completed = await complete({ input: { uploadId: target.id, idempotencyKey: crypto.randomUUID() } });
      if (completed.error) throw new Error(messageOf(completed.error));
      const { operation } = completed.data!.completeUpload;
      setStarted(operation);
      onStarted(operation);
    } catch (error) {
      setUploadFailure((error as Error).message || "The file could not be uploaded.");
    }
  }

  function choose(event: ChangeEvent<HTMLInputElement>) {
    const [file] = event.target.files ?? [];
    if (file) void upload(file);
    event.target.value = ""; // so that the same file may be chosen again
  }

  function drop(event: DragEvent) {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file && !isBusy) void upload(file);
  }

  return (
    <div className="upload" onDragOver={(event) => event.preventDefault()} onDrop={drop}>
      <label data-busy={isBusy}>
        <input type="file" onChange={choose} disabled={isBusy} />
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M12 16V5m0 0L7.5 9.5M12 5l4.5 4.5M5 15v3a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2v-3" />
        </svg>
        <span>
          <strong>Upload a file</strong> or drop one here
        </span>
      </label>
      {name && (
        <div className="sending" role="status">
          <span>{name}</span>
          <small>
            {uploadFailure && !operation
              ? "Not uploaded"
              : operation
                ? `${isClosed(operation) ? "" : "Making the file · "}${percent(operation.progress.fraction)}`
                : `Sending · ${percent(sent)}`}
          </small>
          <Bar
            label={operation ? "Upload: file made" : "Upload: bytes sent"}
            value={operation?.progress.fraction ?? sent}
            tone={uploadFailure || followFailure ? "FAILED" : (operation?.status ?? "SENDING")}
          />
          {failure && <p role="alert">{failure}</p>}
        </div>
      )}
    </div>
  );
}

function FileRow(props: { file: StoredFile; mayProcess: boolean; onStarted: (operation: Operation) => void }) {
  const { file } = props;
  const [{ fetching, error }, process] = useMutation(ProcessFileDocument);

  async function read() {
    const { data } = await process({ input: { fileId: file.id, idempotencyKey: crypto.randomUUID() } });
    if (data) props.onStarted(data.processFile.operation);
  }

  return (
    <li>
      <span className="type" aria-hidden="true">
        {file.name.split(".").at(-1)!.slice(0, 4)}
      </span>
      <a href={file.downloadUrl}>{file.name}</a>
      <small>
        {[bytes(file.size), ago(file.uploadedAt), ...facts(file.metadata)].join(" · ")}
        {error && <span role="alert"> {messageOf(error)}</span>}
      </small>
      {props.mayProcess && !file.metadata && (
        <button disabled={fetching} onClick={read} aria-label={`Read ${file.name}`}>
          Read
        </button>
      )}
    </li>
  );
}

/** What reading it found out: lines and words of a text, width and height of an image. */
function facts(metadata: unknown): string[] {
  const found = Object.entries(metadata ?? {}).filter(([name]) => name !== "bytes");
  return found.map(([name, value]) => `${value.toLocaleString("en")} ${name}`);
}

function percent(fraction: number): string {
  return `${Math.round(fraction * 100)} %`;
}
