"""Uploads and downloads of files by signed URLs, outside GraphQL: streamed between client and storage."""
