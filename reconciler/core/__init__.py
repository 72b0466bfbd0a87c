"""Decisions: pure functions of values. The same code decides in production, in the simulation and in the proof."""
