"""Logs, audit lines, traces and metrics."""
