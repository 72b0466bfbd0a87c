"""Fake machines: a directory tree, and kernel and package tools that act on it as the real ones do, lies included."""

from reconciler.sandbox.hosts.machine import FakeHost
from reconciler.sandbox.hosts.source import create_source_repository

__all__ = ["FakeHost", "create_source_repository"]
