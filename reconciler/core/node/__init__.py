"""The protocol on one node: what the operator does now, and what it remembers (docs/node-transaction.md)."""
