/** Sends a file's bytes to where `createUpload` says. XMLHttpRequest, because fetch does not tell how far a body is. */
import type { CreateUploadMutation } from "./generated/graphql";

type UploadTarget = CreateUploadMutation["createUpload"]["upload"];

/** `onProgress` is told the part that has gone up, 0 to 1. Rejects with an Error in words for a user. */
export function sendBytes(target: UploadTarget, file: Blob, onProgress: (fraction: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(target.method, target.url);
    for (const { name, value } of target.headers) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    request.onload = () => (request.status < 300 ? resolve() : reject(new Error(reasonOf(request))));
    request.onerror = () => reject(new Error("The connection was lost while the file was being sent. Try again."));
    request.send(file);
  });
}

function reasonOf(request: XMLHttpRequest): string {
  try {
    return JSON.parse(request.responseText).message;
  } catch {
    return `The file was refused (${request.status}).`;
  }
}
