"""Uploads and downloads of bytes outside GraphQL, streamed between client and storage."""
