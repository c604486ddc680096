/** Sends a file's bytes to where `createUpload` says. XMLHttpRequest, because fetch does not report the progress of a body. */
import type { CreateUploadMutation } from "./generated/graphql";

type UploadTarget = CreateUploadMutation["createUpload"]["upload"];

const STALLED_SECONDS = 60;
const LOST = "The connection was lost while the file was being sent. Try again.";
const STALLED = "The gateway has not answered for a minute while the file was being sent. Try again.";

/** Calls `onProgress` with the fraction sent, 0 to 1. Rejects with an Error whose message is for the user. */
export function sendBytes(target: UploadTarget, file: Blob, onProgress: (fraction: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer: ReturnType<typeof setTimeout>;
    const expectProgress = () => {
      clearTimeout(timer);
      timer = setTimeout(() => request.abort(), STALLED_SECONDS * 1000);
    };
    request.open(target.method, target.url);
    for (const { name, value } of target.headers) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => {
      expectProgress();
      onProgress(total ? loaded / total : 0);
    };
    request.onload = () => (request.status < 300 ? resolve() : reject(new Error(reasonOf(request))));
    request.onerror = () => reject(new Error(LOST));
    request.onabort = () => reject(new Error(STALLED));
    request.onloadend = () => clearTimeout(timer);
    expectProgress();
    request.send(file);
  });
}

/** The message of a refusal: of the gateway's GraphQL error, or a general one if a proxy answered. */
function reasonOf(request: XMLHttpRequest): string {
  try {
    const message: unknown = JSON.parse(request.responseText).errors[0].message;
    if (typeof message === "string" && message) return message;
  } catch {
    // not JSON, or another shape
  }
  return `The file was refused (${request.status}).`;
}
