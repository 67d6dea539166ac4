"""Readiness gates: those that SQL answers at a switch, and those whose evidence is gathered beforehand."""
